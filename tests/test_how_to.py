"""Whoever does what docs/architecture.md says has a method, a model, a layout and a format more."""

import contextlib
import json
import random
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner

from sparsify.artifact import formats
from sparsify.artifact.loading import load_artifact
from sparsify.cli.main import main
from sparsify.corpus import layouts
from sparsify.errors import SparsifyError
from sparsify.methods import names as methods
from sparsify.models import names as models

from .fuzz.mutations import mutated
from .methods import test_methods

TEXT = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, flags=re.DOTALL))
LINES = re.findall(r"The line is\s`(.*?),`", TEXT, flags=re.DOTALL)


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
    names |= vars(layouts) | vars(formats) | vars(models)
    method, model, layout, format_ = LINES
    for name, home in eval(f"{{{method}}}", names).items():
        monkeypatch.setitem(methods.METHODS, name, home)
    for name, shipped in eval(f"{{{model}}}", names).items():
        monkeypatch.setitem(models.SHIPPED, name, shipped)
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
    file = tmp_path / "model.gz"
    exported = sparsify("export", tmp_path / "run", "--format", "gz", "--output", file)
    assert exported["parity"]["passed"]
    assert sparsify("inspect", file)["sparsity"] == run["sparsity"]
    valid = file.read_bytes()
    for number in range(100):
        file.write_bytes(mutated(valid, random.Random(number)))
        with contextlib.suppress(SparsifyError):
            load_artifact(file)


@pytest.mark.usefixtures("followed")
def test_the_method_keeps_what_methods_promise(tmp_path):
    for target in (0.5, 0.95):
        test_methods.test_finishes_at_exactly_the_target("random", target)
    test_methods.test_weights_without_a_gradient_do_not_cost_the_target("random", 0.0)
    test_methods.test_resumes_exactly("random", 10, tmp_path)


@pytest.mark.usefixtures("followed")
def test_the_layout_is_taken_for_no_other(tmp_path):
    assert layouts.detect_layout(tmp_path) == "folder"
    (tmp_path / "spk_1").mkdir()
    assert layouts.detect_layout(tmp_path) == "folder"
    (tmp_path / "a_1.wav").touch()
    assert layouts.detect_layout(tmp_path) == "flat"
    (tmp_path / "b.wav").touch()
    assert layouts.detect_layout(tmp_path) == "folder"
