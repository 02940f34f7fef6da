"""Real processes: they answer, they end with who started them, and nobody waits for ever."""

import os
import signal
from dataclasses import replace

import pytest

from sparsify.artifact.loading import load_artifact
from sparsify.benchmarks.inference import runner
from sparsify.benchmarks.inference.candidates import Gathering
from sparsify.benchmarks.inference.runner import Runner
from sparsify.errors import SparsifyError
from sparsify.progress import silent


@pytest.fixture(scope="module")
def candidate(artifacts, tmp_path_factory):
    gathering = Gathering(tmp_path_factory.mktemp("twins"))
    return gathering.candidates([load_artifact(artifacts["onnx"])], silent)[1]


def test_a_process_answers_and_ends_with_its_input(candidate, monkeypatch):
    with Runner(candidate, threads=1) as running:
        running.wait()
        times, peak_bytes = running.turn(batch=1, frames=20, calls=3)
        assert len(times) == 3
        assert min(times) > 0
        assert 0 <= peak_bytes < 1e9
        process = running._process
        monkeypatch.setattr(runner, "PATIENCE", 0.2)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(SparsifyError, match=r"in onnxruntime has not answered"):
            running.turn(batch=1, frames=20, calls=3)
        os.kill(process.pid, signal.SIGCONT)
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_process_that_dies_is_a_sentence(candidate):
    with Runner(candidate, threads=1) as running:
        os.kill(running._process.pid, signal.SIGKILL)
        with pytest.raises(SparsifyError, match="ended by signal SIGKILL, perhaps because memory"):
            running.wait()


def test_what_a_process_says_last_is_told(candidate, monkeypatch):
    monkeypatch.setattr(runner, "CHILD", "no_such_module")
    with Runner(candidate, threads=1) as running, pytest.raises(SparsifyError) as caught:
        running.wait()
    assert "has ended: " in str(caught.value)
    assert "No module named no_such_module" in str(caught.value)


def test_an_error_names_the_given_file_and_not_its_twin(candidate, tmp_path):
    twin = replace(candidate, path=tmp_path / "twin.onnx")
    with Runner(twin, threads=1) as running, pytest.raises(SparsifyError) as caught:
        running.wait()
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value).count(f"'{candidate.given}'") == 2


def test_nothing_is_left_running(candidate):
    with Runner(candidate, threads=1) as running:
        process = running._process
        assert process.poll() is None
    assert process.poll() == -signal.SIGKILL
