"""What is run, what is not run again, and what becomes of failures and interruptions."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sparsify.comparison import processes, runner
from sparsify.comparison.cells import grid
from sparsify.comparison.executor import LostError
from sparsify.comparison.plan import Plan
from sparsify.comparison.processes import Processes
from sparsify.comparison.test_sets import TestSet
from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import Recipe


@pytest.fixture
def book(tmp_path, monkeypatch):
    """Where the imitation of the command reads and writes."""
    folder = tmp_path / "book"
    folder.mkdir()
    monkeypatch.setenv("IMITATION", str(folder))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    imitation = Path(__file__).with_name("imitation.py")
    monkeypatch.setattr(processes, "PROGRAM", (sys.executable, "-S", str(imitation)))
    monkeypatch.setattr(runner, "_POLL", 0.01)
    return folder


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "trials.txt").write_text("1 a b\n0 a c\n")
    test = TestSet(
        name="clean", trials=str(tmp_path / "trials.txt"), audio_root=str(tmp_path / "audio")
    )
    runs = tuple(grid(["dense", "adabreg"], [0.5, 0.9], [0]))
    return Plan(recipe=Recipe(), runs=runs, tests=(test,))


def carry_out(plan, output, jobs, **options):
    return runner.carry_out(plan, output, executor=Processes(jobs), **options)


def calls(book):
    """What was called since the last time, by (command, run, new or --resume)."""
    file = book / "calls"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def kinds(book):
    return sorted(tuple(call[:3]) for call in calls(book))


NAMES = ["adabreg-0.5-seed0", "adabreg-0.9-seed0", "dense-seed0"]
EVERYTHING = [("evaluate", name, "new") for name in NAMES] + [
    ("train", name, "new") for name in NAMES
]


def test_everything_is_done_once(book, plan, tmp_path):
    seen = []
    failures = carry_out(plan, tmp_path / "out", jobs=2, watch=lambda p: seen.append(p[0].doing))
    assert failures == {}
    assert kinds(book) == EVERYTHING
    assert {"training", "evaluating on clean"} <= set(seen)
    file = tmp_path / "out" / "runs" / "dense-seed0" / "evaluations" / "clean.json"
    assert json.loads(file.read_text())["result"]["eer_percent"] == 5
    assert carry_out(plan, tmp_path / "out", jobs=2) == {}
    assert kinds(book) == []


def test_other_trials_are_evaluated_anew(book, plan, tmp_path):
    carry_out(plan, tmp_path / "out", jobs=3)
    calls(book)
    (tmp_path / "trials.txt").write_text("1 a b\n0 a c\n0 b c\n")
    carry_out(plan, tmp_path / "out", jobs=3)
    assert {kind for kind, *_ in kinds(book)} == {"evaluate"}


def test_a_failure_stops_nothing_else_and_is_resumed(book, plan, tmp_path, monkeypatch):
    command = processes.PROGRAM
    (book / "broken").write_text(NAMES[0])
    failures = carry_out(plan, tmp_path / "out", jobs=1)
    assert failures.keys() == {NAMES[0]}
    assert failures[NAMES[0]].startswith("it broke")
    assert len(calls(book)) == len(EVERYTHING) - 1
    monkeypatch.setattr(processes, "PROGRAM", (sys.executable, "-c", "raise SystemExit(3)"))
    again = carry_out(plan, tmp_path / "out", jobs=1)
    assert again[NAMES[0]].startswith("exit code 3")  # what it said before no longer counts
    monkeypatch.setattr(processes, "PROGRAM", command)
    (book / "broken").unlink()
    assert carry_out(plan, tmp_path / "out", jobs=1) == {}
    assert kinds(book) == [("evaluate", NAMES[0], "new"), ("train", NAMES[0], "--resume")]


def test_an_interruption_ends_the_processes_and_is_resumed(book, plan, tmp_path):
    (book / "slow").touch()

    def interrupt(progress):
        if sum(each.record.get("step") == 1 for each in progress) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(plan, tmp_path / "out", jobs=2, watch=interrupt)
    started = calls(book)
    assert len(started) == 2
    for *_, process, _ in started:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    (book / "slow").unlink()
    assert carry_out(plan, tmp_path / "out", jobs=2) == {}
    resumed = {name for _, name, how in kinds(book) if how == "--resume"}
    assert resumed == {name for _, name, *_ in started}


@pytest.mark.parametrize(
    "content", ["", "[]", '{"test_set": 5}', '{"test_set": {}, "result": {"eer_percent": "x"}}']
)
def test_a_damaged_evaluation_is_made_again_and_a_damaged_run_stops_no_other(
    book, plan, tmp_path, content
):
    carry_out(plan, tmp_path / "out", jobs=1)
    calls(book)
    runs = tmp_path / "out" / "runs"
    (runs / NAMES[0] / "evaluations" / "clean.json").write_text(content)
    (runs / NAMES[1] / "summary.json").write_text("")
    failures = carry_out(plan, tmp_path / "out", jobs=1)
    assert failures.keys() == {NAMES[1]}
    assert "is damaged" in failures[NAMES[1]]
    assert kinds(book) == [("evaluate", NAMES[0], "new")]


def test_a_damaged_recipe_stops_no_other_run(book, plan, tmp_path):
    carry_out(plan, tmp_path / "out", jobs=1)
    (tmp_path / "out" / "runs" / NAMES[0] / "recipe.yaml").write_text("{")
    assert carry_out(plan, tmp_path / "out", jobs=1) == {}  # it is trained, and needs none


@pytest.mark.parametrize("printed", ["", "[1]", "5 is not", "[" * 5000])
def test_what_a_command_prints_may_be_no_result(book, plan, tmp_path, printed):
    (book / "printed").write_text(printed)
    failures = carry_out(plan, tmp_path / "out", jobs=1)
    assert failures.keys() == set(NAMES)
    assert all("what it printed is" in failure for failure in failures.values())


def test_warnings_of_a_run_are_passed_on(book, plan, tmp_path, caplog):
    (book / "broken").write_text(NAMES[0])
    carry_out(plan, tmp_path / "out", jobs=1)
    assert caplog.messages == [f"{NAMES[0]}: odd"]


def test_speakers_that_are_told_go_to_the_evaluation(book, plan, tmp_path):
    (tmp_path / "speakers").write_text("a one\nb one\nc two\n")
    given = plan.tests[0].model_copy(update={"speakers": str(tmp_path / "speakers")})
    carry_out(plan, tmp_path / "out", jobs=1)
    calls(book)
    carry_out(plan.model_copy(update={"tests": (given,)}), tmp_path / "out", jobs=1)
    assert {kind for kind, *_ in kinds(book)} == {"evaluate"}  # anew, as intervals are possible now
    said = (book / "arguments").read_text().splitlines()[-1]
    assert f"--confidence 95 --resampled --speakers {tmp_path / 'speakers'}" in said


def test_a_killed_process_is_a_failure_that_tells_so(book, plan, tmp_path):
    (book / "slow").touch()

    def kill(progress):
        if any(each.record for each in progress) and (book / "slow").exists():
            (book / "slow").unlink()
            os.kill(calls(book)[0][3], signal.SIGKILL)

    failures = carry_out(plan, tmp_path / "out", jobs=1, watch=kill)
    assert len(failures) == 1
    assert "SIGKILL" in next(iter(failures.values()))


class Unlucky(Processes):
    """Loses the first commands that it is given, when they have ended."""

    def __init__(self, losses):
        super().__init__(1)
        self.losses = losses

    def start(self, order, slot):
        work = super().start(order, slot)
        if self.losses:
            self.losses -= 1
            work.end()
            work.code = self.lose
        return work

    def lose(self):
        raise LostError("has lost its worker")


def test_what_is_lost_with_its_machine_is_started_again(book, plan, tmp_path, caplog):
    one = plan.model_copy(update={"runs": plan.runs[:1]})
    (book / "broken").write_text("dense-seed0")
    states = []

    def watch(progress):
        states.append(progress[0].state)
        if states[-1] == "waiting":
            (book / "broken").unlink()

    out = tmp_path / "out"
    assert runner.carry_out(one, out, executor=Unlucky(1), watch=watch) == {}
    assert [how for command, _, how in kinds(book) if command == "train"] == ["--resume", "new"]
    assert caplog.messages == ["dense-seed0: has lost its worker, and is started again"]
    assert list(dict.fromkeys(states)) == ["running", "waiting", "done"]


def test_what_is_lost_again_and_again_has_failed(book, plan, tmp_path):
    one = plan.model_copy(update={"runs": plan.runs[:1]})
    (book / "broken").write_text("dense-seed0")
    failures = runner.carry_out(one, tmp_path / "out", executor=Unlucky(9))
    assert "has lost its worker, for the third time at the same place" in failures["dense-seed0"]
    assert len(calls(book)) == 3


def test_a_lost_training_that_is_still_at_work_is_waited_for(book, plan, tmp_path):
    """As one is on a machine that is cut off from the others, but not from their disk."""
    one = plan.model_copy(update={"runs": plan.runs[:1]})
    (book / "broken").write_text("dense-seed0")
    hold = (
        "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.lockf(lock, fcntl.LOCK_EX);"
        " print(flush=True); input()"
    )
    file = tmp_path / "out" / "runs" / "dense-seed0" / ".lock"
    file.parent.mkdir(parents=True)
    other = subprocess.Popen(
        [sys.executable, "-S", "-c", hold, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    other.stdout.readline()
    waited = []

    def watch(progress):
        if progress[0].state == "waiting":
            waited.append(len(calls(book)))
            if len(waited) == 5:
                (book / "broken").unlink()
                other.communicate(b"\n")

    assert runner.carry_out(one, tmp_path / "out", executor=Unlucky(1), watch=watch) == {}
    assert waited == [1, 0, 0, 0, 0]
    assert [how for command, _, how in kinds(book) if command == "train"] == ["--resume"]


def test_another_recipe_is_refused(book, plan, tmp_path):
    carry_out(plan, tmp_path / "out", jobs=1)
    other = plan.model_copy(update={"recipe": Recipe(name="other")})
    calls(book)
    with pytest.raises(SparsifyError, match="another recipe"):
        carry_out(other, tmp_path / "out", jobs=1)
    assert calls(book) == []


def test_two_at_the_same_time_are_refused(book, plan, tmp_path):
    carry_out(plan, tmp_path / "out", jobs=1)
    with (tmp_path / "out" / "logs" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SparsifyError, match="at work in"):
            carry_out(plan, tmp_path / "out", jobs=1)


def test_processes_share_the_cores(book, plan, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "available_cores", lambda: 8)
    carry_out(plan, tmp_path / "out", jobs=2)
    assert {threads for *_, threads in calls(book)} == {"4"}


def test_processes_take_turns_on_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    gpus = processes.visible_gpus()
    used = [processes.environment(slot, 3, gpus)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert used == ["2", "5", "2"]


def test_latency_of_a_method_whose_first_seed_failed_is_that_of_another(book, plan, tmp_path):
    several = plan.model_copy(update={"runs": tuple(grid(["dense"], [0.5], [3, 4]))})
    (book / "broken").write_text("dense-seed3")
    failures = carry_out(several, tmp_path / "out", jobs=1, measure_latency=True)
    assert failures.keys() == {"dense-seed3"}
    assert ("benchmark", "dense-seed4", "new") in kinds(book)


def test_a_latency_that_fails_is_told_of_the_model_that_was_measured(book, plan, tmp_path):
    several = plan.model_copy(update={"runs": tuple(grid(["dense"], [0.5], [3, 4]))})
    (book / "unequal").touch()
    failures = carry_out(several, tmp_path / "out", jobs=1, measure_latency=True)
    assert failures.keys() == {"dense-seed3"}
    assert failures["dense-seed3"].startswith("measuring latency: the exported network differs")


def test_latency_is_measured_once_per_method_and_target(book, plan, tmp_path):
    runs = tuple(grid(["dense", "adabreg"], [0.5], [3, 4]))
    several = plan.model_copy(update={"runs": runs})
    for _ in range(2):
        assert carry_out(several, tmp_path / "out", jobs=2, measure_latency=True) == {}
    measured = [name for command, name, _ in kinds(book) if command == "benchmark"]
    assert measured == ["adabreg-0.5-seed3", "dense-seed3"]


def test_what_a_command_has_said_last_of_its_work(tmp_path):
    log = tmp_path / "run.log"
    assert runner._last_line(log, 0) == ""
    log.write_bytes(b"before\nOn node17\nstep 20  validating\nWarning: careful\nhalf a li")
    assert runner._last_line(log, len(b"before\n")) == "step 20  validating"
    assert runner._last_line(log, log.stat().st_size) == ""
