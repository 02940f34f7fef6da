"""Whoever does what docs/architecture.md says has a method, a model, a layout and a format more."""

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner

from sparsify.artifact import formats
from sparsify.cli.main import main
from sparsify.corpus import layouts
from sparsify.methods import registry as methods
from sparsify.models import registry as models

TEXT = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, flags=re.DOTALL))
LINES = re.findall(r"The line is `(.*?),`", TEXT)


@pytest.fixture
def followed(monkeypatch, forget_commands):
    """All that the page tells to write, as if it were there."""
    names = {}
    for file, code in FILES.items():
        name = file.removesuffix(".py").replace("/", ".")
        name = name if name.startswith("sparsify.") else f"sparsify.{name}"
        module = types.ModuleType(name)
        exec(code, vars(module))
        monkeypatch.setitem(sys.modules, name, module)
        names |= vars(module)
    names |= {"_Layout": layouts._Layout, "Format": formats.Format}
    method, model, layout, format_ = LINES
    monkeypatch.setattr(methods, "_METHODS", eval(f"{{{method}}}", names) | methods._METHODS)
    monkeypatch.setattr(models, "_FACTORIES", eval(f"{{{model}}}", names) | models._FACTORIES)
    monkeypatch.setattr(layouts, "_LAYOUTS", eval(f"{{{layout}}}", names) | layouts._LAYOUTS)
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, eval(format_, names)))
    forget_commands()


def sparsify(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("followed")
def test_what_the_page_tells_works(tmp_path):
    speech = tmp_path / "speech"
    speech.mkdir()
    rng = np.random.default_rng(0)
    for name in (f"{speaker}_{number}.wav" for speaker in "abcde" for number in range(2)):
        sf.write(speech / name, rng.normal(0, 0.1, 8000), 16_000)
    settings = {
        "model.options": "{channels: 8, embedding_dim: 8}",
        "training.steps": 4,
        "training.batch_size": 4,
        "training.workers": 0,
        "data.crop_seconds": 0.3,
        "data.validation_speakers": 2,
    }
    changes = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    arguments = ["--data", speech, "--method", "random", "--model", "xvector", *changes]
    run = sparsify("train", *arguments, "--target-sparsity", "0.75", "--output", tmp_path / "run")
    assert run["sparsity"] == pytest.approx(0.75, abs=1e-3)
    file = tmp_path / "model.npz"
    exported = sparsify("export", tmp_path / "run", "--format", "npz", "--output", file)
    assert exported["parity"]["passed"]
    assert sparsify("inspect", file)["sparsity"] == run["sparsity"]
