"""The device check: its parts work at toy size, and no part takes another with it."""

import json
import os
import warnings
from pathlib import Path

import pytest
import torch

from sparsify import LinBreg
from sparsify.benchmarks import device_check, exactness, throughput, timing
from sparsify.benchmarks.device_check import PARTS, CheckPart, check_device, main
from sparsify.benchmarks.device_part import Setting, attempt, goal
from sparsify.benchmarks.timing import Marks, activity_of, paired_ratio, waits

REAL = [part for part in PARTS if part.name != "compiled throughput"]  # skipped at toy size
BAD = """
import json, os, signal, subprocess, time

def raises(setting):
    yield {"kept": True}
    raise ValueError("this part is broken")

def dies(setting):
    yield {"kept": True}
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs(setting):
    sleeper = subprocess.Popen(["sleep", "600"])
    with open(os.environ["SLEEPER"], "w") as file:
        file.write(str(sleeper.pid))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
    yield {}

def fails(setting):
    yield {"value": float("nan")}
    yield {"status": "failed", "reason": "a row is wrong"}

def skips(setting):
    yield {"status": "skipped", "reason": "there is no such thing here"}

def looks(setting):
    with open(os.environ["SEEN"]) as file:
        content = json.load(file)
    yield {"complete": content["complete"], "names": [part["name"] for part in content["parts"]]}
"""


@pytest.fixture(scope="module")
def checked(forks, tmp_path_factory):
    """The results of bad parts, then all real ones, by name; and whether all went well."""
    folder = tmp_path_factory.mktemp("device_check")
    (folder / "bad_parts.py").write_text(BAD)
    output, sleeper = folder / "results.json", folder / "sleeper"
    # Of ten minutes the part that hangs gets six seconds, in which it is sure to have started.
    weights = {"looks": 5, "raises": 5, "dies": 5, "fails": 5, "skips": 5, "hangs": 4}
    bad = [CheckPart(name, f"bad_parts:{name}", weight) for name, weight in weights.items()]
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PYTHONPATH": path, "SEEN": output, "SLEEPER": sleeper}.items():
            patch.setenv(name, str(value))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("SPARSIFY_SPEECH_MINI", raising=False)
        parts = [*bad[1:], *REAL[:1], bad[0], *REAL[1:]]
        well = check_device(
            output, "cpu", toy=False, minutes=10, parts=parts, command="the command"
        )
    content = json.loads(output.read_text())
    return well, content, {part["name"]: part for part in content["parts"]}, sleeper


def test_all_parts_work_at_toy_size(checked):
    _, content, parts, _ = checked
    assert content["toy"]
    assert content["complete"]
    assert content["command"] == "the command"
    assert content["machine"]["torch"] == torch.__version__
    for part in REAL:
        found = parts[part.name]
        assert (found["status"], found["reason"], found["log"]) == ("ok", None, [])
        assert found["rows"]
        assert {row["status"] for row in found["rows"]} <= {"ok", "skipped"}
        assert not any("goals" in row for row in found["rows"])  # no claims at toy size


def test_bad_parts_are_reported_with_the_rows_they_made(checked):
    well, _, parts, _ = checked
    assert not well
    raised, died, failed = (parts[name] for name in ("raises", "dies", "fails"))
    assert raised["status"] == died["status"] == failed["status"] == "failed"
    assert raised["reason"] == "ValueError: this part is broken"
    assert any("bad_parts.py" in line for line in raised["log"])
    assert "SIGSEGV" in died["reason"]
    assert raised["rows"] == died["rows"] == [{"status": "ok", "kept": True}]
    assert failed["reason"] == "1 of 2 rows, the first: a row is wrong"
    assert failed["rows"][0]["value"] is None
    assert parts["skips"]["status"] == "skipped"
    assert parts["skips"]["reason"] == "there is no such thing here"


def test_a_part_that_hangs_is_stopped_with_what_it_has_started(checked):
    _, _, parts, sleeper = checked
    assert parts["hangs"]["status"] == "timed out"
    assert parts["hangs"]["reason"].startswith("stopped after")
    state = Path("/proc", sleeper.read_text(), "stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_results_are_written_after_every_part(checked):
    _, content, parts, _ = checked
    (seen,) = parts["looks"]["rows"]
    assert not seen["complete"]
    order = [part["name"] for part in content["parts"]]
    assert seen["names"] == order[: order.index("looks")]


def test_what_a_part_leaves_of_its_time_the_others_share(checked):
    _, _, parts, _ = checked
    last = REAL[1:]
    left = [
        parts[part.name]["limit_seconds"] / part.weight * sum(each.weight for each in last[index:])
        for index, part in enumerate(last)
    ]
    for part, before, after in zip(last, left, left[1:], strict=False):
        # Limits are rounded, which the division by a small weight magnifies.
        assert 0 < after <= before - parts[part.name]["seconds"] + 2


def test_a_device_that_is_not_there_and_a_bad_time_are_named(monkeypatch, tmp_path, capsys):
    without_gpu = {"rows": [{"has_gpu": False}]}
    broken = {"rows": [], "reason": "ImportError: libcudart.so.13"}
    for options, machine, message in (
        (["--device", "cuda"], without_gpu, "no CUDA device was found"),
        ([], broken, "torch does not start on this machine: ImportError: libcudart.so.13"),
        (["--minutes", "0"], without_gpu, "--minutes must be positive"),
        (["--minutes", "nan"], without_gpu, "--minutes must be positive"),
    ):
        monkeypatch.setattr(device_check, "run_part", lambda *_, found=machine: found)
        with pytest.raises(SystemExit) as caught:
            main(["--output", str(tmp_path / "results.json"), *options])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def test_goals_are_met_or_missed():
    assert goal("ratio", 1.1, 1.1)["passed"]
    assert not goal("ratio", 1.11, 1.1)["passed"]
    assert not goal("ratio", float("nan"), 1.1)["passed"]


def test_a_row_that_torch_cannot_compute_leaves_the_others():
    row = attempt({"network": "A"}, lambda: {"shape": torch.ones(2) @ torch.ones(3)})
    assert row["network"] == "A"
    assert row["status"] == "failed"
    assert row["reason"].startswith("RuntimeError: ")


class Wrong(LinBreg):
    """Forgets to cut off the smallest weights."""

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(1e-4)
        return loss


def test_wrong_arithmetic_is_found(monkeypatch):
    monkeypatch.setitem(exactness.KINDS, "LinBreg", Wrong)
    rows = list(exactness.device_rows(Setting("cpu", toy=True)))
    wrong = [row for row in rows if row.get("status") == "failed"]
    assert wrong == [row for row in rows if row.get("optimizer") == "LinBreg"]


def test_a_reference_that_is_not_finite_never_passes():
    assert exactness._verdict(0, float("nan"), 1.0)["status"] == "failed"
    assert exactness._verdict(0, 0.5, 1.0).get("status") is None


def test_shares_of_the_loop_add_up(checked):
    _, _, parts, _ = checked
    rows = [row for row in parts["throughput"]["rows"] if "share_loop" in row]
    assert {row["network"] for row in rows} == {"ECAPA-TDNN-512", "ECAPA-TDNN-1024", "ResNet34"}
    for row in rows:
        shares = [value for key, value in row.items() if key.startswith("share_")]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
        assert {"start", "features", "network", "clip", "optimizer"} <= row["parts_ms"].keys()


def test_what_is_missing_for_compiling_is_named(monkeypatch):
    monkeypatch.setattr(throughput.importlib.util, "find_spec", lambda name: None)
    rows = list(throughput.compiled_rows(Setting("cuda")))
    assert {(row["status"], row["reason"]) for row in rows} == {
        ("skipped", "Triton is not installed")
    }
    monkeypatch.undo()
    monkeypatch.setenv("CXX", "no-such-compiler")
    rows = list(throughput.compiled_rows(Setting("cpu")))
    assert {row["reason"] for row in rows} == {"there is no C++ compiler 'no-such-compiler'"}


def test_marks_book_the_time_from_each_to_the_next(monkeypatch):
    clock = iter([1.0, 1.5, 3.0, 3.25, 10.0, 11.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    marks = Marks("cpu")
    for name in ("a", "b", "a", "end"):
        marks(name)
    assert marks.milliseconds() == {"a": 750.0, "b": 1500.0}
    marks("a")
    marks("end")
    assert marks.milliseconds() == {"a": 1000.0}


def test_paired_ratios():
    twice = paired_ratio([2.0, 20.0, 4.0], [1.0, 10.0, 2.0])
    assert (twice.median, twice.low, twice.high) == (2, 2, 2)
    mixed = paired_ratio([1.0, 2.0, 3.0] * 7, [1.0] * 21)
    assert (mixed.median, mixed.low, mixed.high) == (2, 1, 3)
    assert mixed.fields("r") == {"r": 2, "r_low": 1, "r_high": 3}
    for times, baseline in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match="do not pair"):
            paired_ratio(times, baseline)


def test_a_trace_is_counted_by_category():
    events = [
        {"cat": "kernel", "name": "a", "dur": 1500},
        {"cat": "kernel", "name": "b", "dur": 500},
        {"cat": "gpu_user_annotation", "name": "Optimizer.step#AdaBreg.step", "dur": 9000},
        {"cat": "gpu_memset", "name": "Memset (Device)", "dur": 1},
        {"cat": "gpu_memcpy", "name": "Memcpy DtoH", "dur": 1},
        {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "dur": 1},
        {"cat": "cuda_runtime", "name": "cudaStreamSynchronize", "dur": 1},
        {"name": "process_name", "ph": "M"},
    ]
    assert activity_of(events) == {"kernels": 2, "kernel_ms": 2.0, "copies": 2, "stream_waits": 1}


def test_waits_are_found_by_their_place(monkeypatch):
    modes = ["default"]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[0])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def action():
        for _ in range(2):
            warnings.warn("called a synchronizing CUDA operation (somewhere)", stacklevel=1)
        warnings.warn("a prototype feature", stacklevel=1)

    places = waits(action)
    assert len(places) == 2
    assert set(places) == {f"{Path(__file__).name}:{action.__code__.co_firstlineno + 2}"}
    assert modes == ["default", "warn", "default"]
