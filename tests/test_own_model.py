"""What docs/own-model.md tells to do works, from the checkpoint to the ONNX file."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from sparsify.cli.main import main
from sparsify.corpus.synthetic import write_synthetic
from sparsify.verification.trials import make_trials, write_trials

from .versions import needs_newer_torch

TEXT = (Path(__file__).parents[1] / "docs" / "own-model.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, flags=re.DOTALL))
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL))
SMALL = [
    "training={steps: 3, batch_size: 4, validate_every: 3, workers: 0, compile: false}",
    "data.validation_speakers=2",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the page takes for granted: speech, trials, and a checkpoint of the package's form."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "resemblyzer_network", raising=False)
    for name, code in FILES.items():
        Path(name).write_text(code)
    write_synthetic(tmp_path / "speech" / "train", 6, 3, seed=1)
    corpus = write_synthetic(tmp_path / "speech" / "test", 4, 3, seed=2)
    keys = [utterance.key for utterance in corpus.utterances]
    speakers = [utterance.speaker for utterance in corpus.utterances]
    write_trials(make_trials(keys, speakers, seed=0), tmp_path / "trials.txt")
    torch.manual_seed(0)
    lstm, linear = torch.nn.LSTM(40, 256, 3), torch.nn.Linear(256, 256)
    torch.nn.init.normal_(lstm.weight_ih_l0, std=30)  # energies are small
    weights = {f"lstm.{name}": each for name, each in lstm.state_dict().items()}
    weights |= {f"linear.{name}": each for name, each in linear.state_dict().items()}
    weights |= {f"similarity_{name}": torch.ones(1) for name in ("weight", "bias")}
    Path("package/resemblyzer").mkdir(parents=True)
    checkpoint = {"step": 1, "model_state": weights, "optimizer_state": {"param_groups": []}}
    torch.save(checkpoint, "package/resemblyzer/pretrained.pt")


def commands():
    """All calls of the page, as a shell expands them."""
    programs = ("sparsify", "python", "pip")
    functions = [f'{name}() {{ printf "%s\\0" {name} "$@"; echo; }}\n' for name in programs]
    shell = ["bash", "-c", "".join(functions) + SHELL]
    said = subprocess.run(shell, check=True, capture_output=True, text=True)
    return [line.split("\0")[:-1] for line in said.stdout.splitlines()]


def call(arguments):
    small = [word for each in SMALL for word in ("--set", each)] if arguments[0] == "train" else []
    result = CliRunner().invoke(main, [*arguments, *small])
    assert result.exit_code == 0, result.output


@needs_newer_torch
@pytest.mark.usefixtures("folder")
def test_what_the_page_tells_works():
    for program, *arguments in commands():
        if program == "sparsify":
            call(arguments)
        elif program == "python":
            runpy.run_path(*arguments)
        else:
            assert arguments[-1] == "resemblyzer==0.1.4"
    assert Path("sparse.onnx").is_file()
    assert Path("taught.onnx").is_file()
