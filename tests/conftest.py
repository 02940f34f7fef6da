"""Fixtures and settings shared by all tests: one thread, fixed seeds, data named by variables."""

import fcntl
import importlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Threads of many small operations only get into each other's way where cores are shared. It is
# read when torch and numpy are imported, and inherited by processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import onnx
import pytest
import torch
from torch import nn

from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.benchmarks.inference import benchmark, turns
from sparsify.cli import commands
from sparsify.comparison.cells import grid
from sparsify.comparison.plan import Plan, shared_recipe
from sparsify.exporters import native
from sparsify.exporters.onnx import writing
from sparsify.models.registry import build_model
from sparsify.recipe.recipe import Recipe, parse_recipe
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.training.observer import Observer
from sparsify.training.trainer import train

from . import in_process
from .compiling import COMPILER, compiling
from .forks import popen

hypothesis.settings.register_profile("sparsify", derandomize=True, deadline=None)
hypothesis.settings.load_profile("sparsify")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fuzz 5000` gives each reader that many damaged inputs, `--kills 50` kills trainings."""
    parser.addoption("--fuzz", type=int, default=200, help="damaged inputs a reader")
    parser.addoption("--kills", type=int, default=0, help="kills of trainings at random moments")


@pytest.fixture(autouse=True)
def _reproducible() -> Iterator[None]:
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)  # training sets it, and hypothesis draws denormals
    torch.manual_seed(0)
    yield
    logging.getLogger("sparsify").setLevel(logging.NOTSET)  # a command may have set it


@pytest.fixture(scope="session")
def c_sources() -> Path:
    """The folder of the native engine's C code."""
    return Path(native.__path__[0]) / "c"


@pytest.fixture(scope="session")
def compile_c(c_sources: Path) -> Callable[..., Path]:
    """Compiles C code into a program or library, or skips where there is no compiler."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip("there is no C compiler")
    return compiling(*COMPILER, f"-I{c_sources}")


@pytest.fixture(scope="session")
def sanitizers(
    compile_c: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Options for a program that stops at the first wrong access; skips where there are none."""
    options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    try:
        compile_c("int main(void) { return 0; }", tmp_path_factory.mktemp("c") / "probe", *options)
    except subprocess.CalledProcessError:
        pytest.skip("the C compiler has no sanitizers")
    return options


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder that all processes of pytest-xdist share; nobody may change it later."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="module")
def forks() -> Iterator[None]:
    """Python programs start as forks, where their start is not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", popen)
        yield


@pytest.fixture(scope="session")
def torchrun() -> Callable[..., tuple[int, str]]:
    """Runs a script in several processes on this machine; the exit code and what they printed."""

    def torchrun(processes: int, script: Path, *arguments: object) -> tuple[int, str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
        loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
        settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.Popen(
            [*command, script, *map(str, arguments)],
            env=os.environ | settings | {"GLOO_SOCKET_IFNAME": loopback},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends its processes
            output, _ = process.communicate()
        return process.returncode, output

    return torchrun


@pytest.fixture(scope="session")
def stop_at() -> type[Observer]:
    """Observers that interrupt a run after a step, as Ctrl-C would."""

    class StopAt(Observer):
        def __init__(self, step: int) -> None:
            self.step = step

        def stepped(self, step: int) -> None:
            if step == self.step:
                raise KeyboardInterrupt

    return StopAt


@pytest.fixture(scope="session")
def speech_mini() -> Path:
    """The evaluation set speech-mini: train/, test/, test_noisy/ and trials.txt."""
    return _folder("SPARSIFY_SPEECH_MINI", "the evaluation set speech-mini")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Outputs of reference implementations."""
    return _folder("SPARSIFY_GOLDEN", "the golden files")


@pytest.fixture(scope="session")
def own_golden() -> Path:
    """Outputs of reference implementations that are small enough to ship."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def sparse_model() -> nn.Module:
    """A tiny ECAPA-TDNN, 80 % sparse, with several equal weights (all zero); do not change it."""
    generator = torch.Generator().manual_seed(0)
    model = build_model("ecapa-tdnn", channels=16, aggregation_channels=64, embedding_dim=24)
    for name, tensor in model.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.5, generator=generator)
    for name, weight in prunable_parameters(model).items():
        keep = torch.rand(weight.shape, generator=generator) > 0.8
        weight.data[~keep] = 0
        if name.endswith(("layer3.se_res2block.1.convs.0.weight", "1.convs.5.weight")):
            weight.data.zero_()
    return model.eval()


@pytest.fixture(scope="session")
def artifacts(sparse_model: nn.Module, once: Callable[..., Path]) -> dict[str, Path]:
    """`sparse_model` on disk in all formats, by `dense`, `bitmask`, `coded` and so on."""
    names = {name: f"{name}.safetensors" for name in ("dense", "bitmask", "coded")}
    names |= {"run": "run", "pt": "model.pt", "onnx": "model.onnx"}

    def make(folder: Path) -> None:
        (folder / "run").mkdir()
        save_model(sparse_model, folder / names["dense"], Recipe(seed=7))
        for layout in ("bitmask", "coded"):
            save_model(sparse_model, folder / names[layout], Recipe(seed=7), layout=layout)
        save_model(sparse_model, folder / "run" / "model.safetensors", Recipe(seed=7))
        torch.save(sparse_model.state_dict(), folder / names["pt"])
        writing.export_onnx(load_artifact(folder / names["dense"]), folder / names["onnx"])

    folder = once("artifacts", make)
    return {name: folder / file for name, file in names.items()}


@pytest.fixture
def known_graph(artifacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of `sparse_model` go on from the graph there is: torch takes seconds for one."""

    def graph(*_: object) -> onnx.ModelProto:
        known = onnx.load(artifacts["onnx"])
        del known.metadata_props[:]
        return known

    monkeypatch.setattr(writing, "_graph", graph)


@pytest.fixture(scope="session")
def comparison_plan() -> Plan:
    """Runs of a few steps on a handful of synthetic utterances."""
    content = {
        "model": {
            "name": "ecapa-tdnn",
            "options": {"channels": 16, "aggregation_channels": 32, "embedding_dim": 16},
        },
        "data": {
            "synthetic_speakers": 5,
            "synthetic_utterances": 2,
            "validation_speakers": 2,
            "crop_seconds": 0.4,
        },
        "training": {"steps": 3, "batch_size": 4, "workers": 0, "log_every": 1},
    }
    runs = tuple(grid(["dense", "linbreg"], [0.5, 0.9], [0, 1]))
    return Plan(recipe=shared_recipe(parse_recipe(content, "tiny")), runs=runs, tests=())


@pytest.fixture(scope="session")
def comparison(comparison_plan: Plan, once: Callable[..., Path]) -> Path:
    """The folder of those runs, all done, with made-up evaluations; do not change it."""

    def make(folder: Path) -> None:
        for number, cell in enumerate(comparison_plan.runs):
            run = folder / "runs" / cell.name
            train(comparison_plan.recipe_of(cell), run, device="cpu")
            (run / "evaluations").mkdir()
            for name, eer_percent in (("clean", 5 + number), ("noisy", 10 + number)):
                content = {"test_set": {}, "result": {"eer_percent": eer_percent, "min_dcf": 0.5}}
                (run / "evaluations" / f"{name}.json").write_text(json.dumps(content))

    return once("comparison", make)


def _folder(variable: str, content: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set to a folder with {content}")
    folder = Path(value)
    assert folder.is_dir(), f"{variable} names no folder: {folder}"
    return folder


@pytest.fixture(scope="session")
def tuned():
    """What a comparison says of its tuning: one value failed."""
    return [
        {
            "method": "gmp",
            "option": "lr",
            "target_sparsity": 0.9,
            "seed": 0,
            "chosen": 0.002,
            "tried": [
                {"value": 0.001, "run": "a", "error": None, "error_rate": 8.513},
                {"value": 0.002, "run": "b", "error": None, "error_rate": 8.0},
                {"value": 0.004, "run": "c", "error": "diverged"},
            ],
        }
    ]


@pytest.fixture
def short_benchmark(monkeypatch: pytest.MonkeyPatch) -> type[in_process.Runner]:
    """Benchmarks take few turns, of one thread, in the process of the test."""
    monkeypatch.setattr(turns, "Runner", in_process.Runner)
    monkeypatch.setattr(turns, "_FEWEST", 6)
    monkeypatch.setattr(turns, "_SECONDS", 0)
    monkeypatch.setattr(benchmark, "available_cores", lambda: 1)
    monkeypatch.setattr(in_process.Runner, "turns", [])
    return in_process.Runner


@pytest.fixture
def forget_commands(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets commands be imported anew: they ask which formats there are when they are imported."""

    def forget() -> None:
        for name in ("benchmark", "export", "inspect", "embed"):
            importlib.import_module(f"sparsify.cli.commands.{name}")
            monkeypatch.delitem(sys.modules, f"sparsify.cli.commands.{name}")
            monkeypatch.delattr(commands, name)

    return forget
