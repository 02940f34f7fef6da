"""Comparisons on a Ray cluster: the same results as locally, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from sparsify.comparison import on_ray
from sparsify.comparison.cells import grid
from sparsify.comparison.commands import RUNS
from sparsify.comparison.compare import compare
from sparsify.comparison.on_ray import Home, Machine, check_machine, ray_cluster, shares
from sparsify.comparison.processes import Processes
from sparsify.errors import SparsifyError

STEPS, EVERY = 30, 10


@pytest.mark.parametrize(
    ("machines", "runs", "jobs", "gpu", "expected"),
    [
        ([(8, 0), (8, 0)], 100, None, False, (8, 2)),  # a run for every two CPUs
        ([(8, 0), (8, 0)], 3, None, False, (3, 4)),  # fewer runs have more of them
        ([(8, 0), (8, 0)], 100, 16, False, (16, 1)),
        ([(8, 0), (8, 0)], 100, 99, False, (99, 1)),  # more than there is room for: some wait
        ([(64, 0), (4, 0)], 1, None, False, (1, 4)),  # so that it fits on either
        ([(1, 0), (1, 0)], 9, None, False, (2, 1)),
        ([(64, 8), (32, 4)], 100, None, True, (12, 8)),  # a run for every GPU
        ([(64, 8), (2, 4)], 100, None, True, (10, 1)),
        ([], 5, None, False, (1, 1)),  # one that grows when something is asked for
        ([], 5, 4, True, (4, 1)),
    ],
)
def test_runs_share_the_cluster_as_they_share_a_machine(machines, runs, jobs, gpu, expected):
    machines = [Machine(*each) for each in machines]
    assert shares(machines, runs, jobs, gpu=gpu) == expected


def test_a_machine_that_is_another_cannot_take_part(tmp_path):
    proof = tmp_path / "logs" / "ray"
    proof.parent.mkdir()
    proof.write_text("7")
    here = Home(str(tmp_path), str(proof), "7", {"torch": version("torch")})
    check_machine(here)
    there = f"cannot work in '{tmp_path}'"
    for change, message in [
        ({"versions": {"torch": "1.0"}}, f"has torch {version('torch')} instead of 1.0"),
        ({"token": "8"}, there),  # a folder of the same name
        ({"proof": str(tmp_path / "nowhere" / "ray")}, there),
        ({"folder": str(tmp_path / "nowhere")}, "nowhere"),
    ]:
        with pytest.raises(SparsifyError, match=message):
            check_machine(Home(**(vars(here) | change)))


def test_without_ray_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(SparsifyError, match=r"pip install 'sparsify-speaker\[ray\]'"),
        ray_cluster(1, None, gpu=False),
    ):
        pass


@pytest.fixture(scope="module")
def two_machines(tmp_path_factory):
    """Two nodes of a Ray cluster with one CPU each, on this machine."""
    why = "Ray is not installed: pip install 'sparsify-speaker[ray]'"
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason=why)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_worker_niceness", "0")  # else 15: a busy machine would leave them nothing
        node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 << 20}
        cluster = cluster_utils.Cluster()
        cluster.add_node(**node, include_dashboard=False)
        cluster.add_node(**node)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def long_plan(comparison_plan):
    training = {"steps": STEPS, "validate_every": EVERY}
    recipe = comparison_plan.recipe
    training = recipe.training.model_copy(update=training)
    runs = tuple(grid(["dense", "linbreg"], [0.5], [0]))
    recipe = recipe.model_copy(update={"training": training})
    return comparison_plan.model_copy(update={"recipe": recipe, "runs": runs})


@pytest.fixture(scope="module")
def local(long_plan, tmp_path_factory):
    """The same comparison, made here and without a break."""
    output = tmp_path_factory.mktemp("local") / "out"
    return output, compare(long_plan, output, executor=Processes(1), device="cpu")


def started(output):
    """The trainings at work in a folder: their run directories, and the workers they belong to."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if on_ray._LEASHED in words and "train" in words:
            run = words[words.index("--output") + 1]
            if run.startswith(str(output)):
                yield run, int(words[words.index(on_ray._LEASHED) + 1])


def wait_until(what, seconds=120):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.05)


def same(results):
    """Results without what differs from one time to the other."""
    text = json.dumps({key: results[key] for key in ("runs", "means", "failures")})

    def without(pairs):
        return {key: value for key, value in pairs if key not in ("seconds", "command")}

    return json.loads(text, object_pairs_hook=without)


def assert_same_files(output, expected):
    for file in ("model.safetensors", "metrics.jsonl", "recipe.yaml"):
        for run in (expected / RUNS).iterdir():
            assert (output / RUNS / run.name / file).read_bytes() == (run / file).read_bytes()


def test_a_worker_dies_and_the_results_are_those_of_an_undisturbed_machine(
    two_machines, local, long_plan, tmp_path, caplog
):
    expected_output, expected = local
    killed = []

    def kill_once(progress):
        run = tmp_path / RUNS / "dense-seed0"
        if not killed and (run / "checkpoints" / "previous.pt").exists():
            killed.extend(worker for name, worker in started(tmp_path) if name == str(run))
            for worker in killed:
                os.kill(worker, signal.SIGKILL)

    @contextmanager
    def display(_):
        yield kill_once

    with ray_cluster(2, None, gpu=False) as cluster:
        assert cluster.jobs == 2
        results = compare(long_plan, tmp_path, executor=cluster, device="cpu", display=display)
    lost = "dense-seed0: has lost its worker (WorkerCrashedError), and is started again"
    assert lost in caplog.messages
    assert "resumed after step" in (tmp_path / "logs" / "dense-seed0.log").read_text()
    assert same(results) == same(expected)
    assert_same_files(tmp_path, expected_output)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_the_command_ends_and_so_do_the_trainings_and_the_same_call_goes_on(
    ending, two_machines, local, long_plan, tmp_path
):
    recipe, output = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(long_plan.recipe.to_yaml())
    command = [sys.executable, "-m", "sparsify", "compare", "--recipe", recipe, "--output", output]
    command += ["--methods", "dense,linbreg", "--targets", "0.5", "--seeds", "0"]
    command += ["--executor", "ray", "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    wait_until(lambda: len(list(output.glob(f"{RUNS}/*/checkpoints/last.pt"))) == 2)
    process.send_signal(ending)
    _, said = process.communicate()
    wait_until(lambda: not list(started(output)))
    if ending == signal.SIGTERM:
        assert process.returncode == 130
        assert f"Continue with: sparsify compare --output {output}" in said.decode()
    done = subprocess.run([*command, "--json"], capture_output=True, check=True)
    assert same(json.loads(done.stdout)) == same(local[1])
    assert_same_files(output, local[0])
