"""Trainings in two processes, which torchrun starts on this machine, against one process."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.errors import SparsifyError
from sparsify.training.distributed import Processes
from sparsify.training.run_directory import RunDirectory
from sparsify.training.trainer import train

WORKER = Path(__file__).with_name("distributed_worker.py")
_SPEC = importlib.util.spec_from_file_location("training_worker", WORKER)
worker = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(worker)

needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="needs torch.distributed with gloo",
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """As in the processes of torchrun: more threads round differently, and steps magnify that."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, torchrun):
    """Holds the runs of two processes: `together`, and `stopped` halfway."""
    folder = tmp_path_factory.mktemp("distributed")
    code, output = torchrun(2, WORKER, "runs", folder)
    assert code == 0, output[-8000:]
    return folder


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(run, other):
    assert len(metrics(run)) == len(metrics(other)) == 10
    for record, expected in zip(metrics(run), metrics(other), strict=True):
        # λ, of order 1e-6, is one dual: a sum of gradients, each rounded relative to the largest.
        # Behind channels without inputs, batch norm makes rounding larger in the gradient.
        assert record.pop("gradient_norm") == pytest.approx(expected.pop("gradient_norm"), rel=0.1)
        assert record == pytest.approx(expected, rel=1e-4, abs=1e-9)
    summaries = [json.loads((path / "summary.json").read_text()) for path in (run, other)]
    for key in ("selected_step", "sparsity", "eer_percent", "average"):
        assert summaries[0][key] == summaries[1][key], key
    # Layer by layer; a bias without a gradient may be 0 in one and 1e-24 in the other.
    artifacts = [load_artifact(path) for path in (run, other)]
    layers = [weights_table(artifact).prunable for artifact in artifacts]
    assert [layer.nonzero for layer in layers[0]] == [layer.nonzero for layer in layers[1]]
    states = [artifact.state for artifact in artifacts]
    for name, tensor in states[0].items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, states[1][name], rtol=1e-4, atol=1e-5, msg=name)
    means = [json.loads(artifact.metadata["embedding_mean"]) for artifact in artifacts]
    assert means[0] == pytest.approx(means[1], abs=0.01)


@needs_gloo
def test_two_processes_equal_one_with_the_same_micro_batches(folder):
    train(worker.tiny("linbreg", 4), folder / "alone", device="cpu")
    assert_same_run(folder / "together", folder / "alone")


@needs_gloo
def test_a_run_of_two_processes_is_resumed_by_one(folder):
    assert not (folder / "stopped" / "summary.json").exists()
    recipe = RunDirectory(folder / "stopped").saved_recipe()
    assert recipe.training.micro_batches == 2  # one for each of the processes
    train(recipe, folder / "stopped", device="cpu", resume=True)
    train(worker.tiny("adabreg", 2), folder / "straight", device="cpu")
    assert_same_run(folder / "stopped", folder / "straight")


@needs_gloo
def test_one_failure_stops_all_with_one_sentence(tmp_path, torchrun):
    settings = [f"--set={assignment}" for assignment in worker.TINY]
    code, output = torchrun(2, WORKER, "fail", "train", "--output", tmp_path / "run", *settings)
    assert code != 0
    errors = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert errors == ["Error: the second process is broken"]
    assert [record["step"] for record in metrics(tmp_path / "run")] == [1, 2, 3, 4]


def test_places_are_shared_out():
    ranges = [Processes(rank, 3).shared(24, 6) for rank in range(3)]
    assert ranges == [(range(0, 8), 2), (range(8, 16), 2), (range(16, 24), 2)]
    assert Processes(1, 2).shared(8, 1) == (range(4, 8), 1)
    assert Processes().shared(8, 4) == (range(8), 4)
    for count, size, pieces in ((2, 9, 1), (2, 8, 3), (4, 4, 1), (3, 16, 1)):
        with pytest.raises(SparsifyError, match="batch_size"):
            Processes(0, count).shared(size, pieces)
