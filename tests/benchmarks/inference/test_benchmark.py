import shutil
from dataclasses import replace

import pytest
import torch

from sparsify import build_model, save_model
from sparsify.artifact.artifact import weights_table
from sparsify.artifact.formats import DENSE, SAMPLES, format_named, written
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.provenance import INPUT
from sparsify.benchmarks.inference import turns
from sparsify.benchmarks.inference.benchmark import Benchmark, Latency, benchmark
from sparsify.benchmarks.inference.candidates import Gathering
from sparsify.errors import SparsifyError
from sparsify.exporters.export import export_artifact
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.networks import PYTORCH
from sparsify.progress import silent

pytestmark = pytest.mark.usefixtures("short_benchmark")


def test_every_shape_is_measured_in_turns(artifacts, short_benchmark):
    tracked = []

    def track(items, description, total):
        tracked.append(description)
        return silent(items, description, total)

    shapes = {"frames": (30, 20), "batches": (2,)}
    result = benchmark([load_artifact(artifacts["onnx"])], rounds=7, track=track, **shapes)
    expected = [
        (batch, frames, engine, artifact)
        for batch, frames in ((2, 20), (2, 30))
        for engine, artifact in (
            ("onnxruntime", "dense"),
            ("onnxruntime", "sparse"),
            ("pytorch", "sparse"),
        )
    ]
    rows = [(row.batch, row.frames, row.engine, row.artifact) for row in result.rows]
    assert rows == expected
    assert tracked[:3] == ["Preparing models", "Preparing dense twins", "Starting, 1 thread"]
    assert tracked[3] == "1 thread, batch 2, 20 frames"
    assert len(short_benchmark.turns) == 2 * 3 * (1 + 7)
    assert [len(times) for times in result.rounds] == 6 * [7]
    rounds = [short_benchmark.turns[start : start + 3] for start in range(3, 24, 3)]
    assert all(set(each) == set(rounds[0]) for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1  # the order is drawn


def test_rows_are_consistent(artifacts):
    path = artifacts["onnx"]
    result = benchmark([load_artifact(path)], frames=(50,), batches=(2,))
    baseline, sparse, torch = result.rows
    for row in result.rows:
        assert (row.precision, row.threads, row.batch, row.frames) == ("fp32", 1, 2, 50)
        assert 0 < row.min_ms <= row.median_ms <= row.p90_ms
        assert row.speedup_low <= row.speedup <= row.speedup_high
        assert row.rtf == pytest.approx(row.median_ms / 1000 / (2 * 0.5))
        assert (row.path, row.bytes > row.zipped_bytes) == (str(path), True)
        assert row.peak_bytes >= 0
    assert (baseline.speedup_low, baseline.speedup, baseline.speedup_high) == (1, 1, 1)
    assert sparse.bytes == path.stat().st_size
    assert sparse.zipped_bytes < baseline.zipped_bytes
    assert (baseline.sparsity, baseline.baseline, torch.baseline) == (0, True, False)
    assert 0.7 < sparse.sparsity == torch.sparsity < 0.9
    assert result.machine.engines["onnxruntime"] == result.machine.onnxruntime


def test_artifacts_of_a_network_share_their_dense_twin(artifacts, tmp_path):
    given = [load_artifact(each) for each in (artifacts["onnx"], artifacts["onnx"])]
    found = Gathering(tmp_path).candidates(given, silent)
    assert [(each.engine, each.artifact, each.baseline) for each in found] == [
        ("onnxruntime", "dense", True),
        ("onnxruntime", "sparse", False),
        ("onnxruntime", "sparse", False),
        ("pytorch", "sparse", False),
    ]


@pytest.mark.usefixtures("known_graph")
def test_what_has_no_engine_is_exported(artifacts, tmp_path):
    found = Gathering(tmp_path, ["onnxruntime"]).candidates(
        [load_artifact(artifacts["run"])], silent
    )
    assert [(each.engine, each.artifact) for each in found] == [
        ("onnxruntime", "dense"),
        ("onnxruntime", "sparse"),
    ]
    assert {each.given for each in found} == {artifacts["run"] / "model.safetensors"}
    assert all(each.path.is_relative_to(tmp_path) for each in found)


@pytest.mark.usefixtures("known_graph")
def test_an_engine_that_cannot_take_part_is_left_out_unless_it_was_asked_for(
    artifacts, tmp_path, monkeypatch
):
    def fails(*_):
        raise SparsifyError("it is not installed")

    others = [
        each for each in written() if exporter_of(each).engine not in ("onnxruntime", PYTORCH)
    ]
    for each in others:
        monkeypatch.setattr(type(exporter_of(each)), "write", fails)
    artifact = load_artifact(artifacts["run"])
    gathering = Gathering(tmp_path)
    found = gathering.candidates([artifact], silent)
    assert [each.engine for each in found] == ["onnxruntime", "onnxruntime", "pytorch"]
    names = [exporter_of(each).engine for each in others]
    assert gathering.left_out == [f"{name} is left out: it is not installed" for name in names]
    (tmp_path / "asked").mkdir()
    with pytest.raises(SparsifyError, match="it is not installed"):
        Gathering(tmp_path / "asked", names).candidates([artifact], silent)


def test_without_a_network_the_baseline_is_in_the_files_own_engine(own_golden, tmp_path):
    pytest.importorskip("MNN")
    artifact = load_artifact(own_golden / "mnn_sparse.mnn")
    found = Gathering(tmp_path).candidates([artifact], silent)
    assert [(each.engine, each.artifact, each.baseline) for each in found] == [
        ("mnn", "dense", True),
        ("mnn", "sparse", False),
    ]


def test_a_file_that_cannot_be_rebuilt_has_the_baseline_of_its_source(artifacts, tmp_path):
    source = load_artifact(artifacts["onnx"])
    file = replace(source, obstacle="it is not all there", path=artifacts["onnx"])
    (first, *others) = Gathering(tmp_path).candidates([file], silent, source)
    assert (first.engine, first.baseline, first.given) == ("onnxruntime", True, artifacts["onnx"])
    assert [each.engine for each in others] == ["onnxruntime", "pytorch"]


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory):
    """A network that has dead channels, and its graphs with and without them."""
    folder = tmp_path_factory.mktemp("shrunk")
    model = build_model("resnet18", channels=4, embedding_dim=8, blocks=[1, 1, 1, 1])
    block = model.layer1[0]
    with torch.no_grad():
        for each in (block.conv1.weight, block.bn1.weight, block.bn1.bias):
            each[1:3] = 0
    save_model(model, folder / "model.safetensors")
    source = load_artifact(folder / "model.safetensors")
    for name, shrink in (("small.onnx", True), ("whole.onnx", False)):
        export_artifact(source, folder / name, "onnx", shrink=shrink)
    return source, load_artifact(folder / "small.onnx"), load_artifact(folder / "whole.onnx")


def test_a_shrunk_file_is_compared_with_the_dense_network_before(shrunk, tmp_path):
    source, small, _ = shrunk
    found = Gathering(tmp_path).candidates([small], silent, source)
    assert [(each.engine, each.artifact, each.baseline) for each in found] == [
        ("onnxruntime", "dense", True),
        ("onnxruntime", "shrunk", False),
        ("pytorch", "shrunk", False),
    ]
    baseline, measured, _ = found
    assert (baseline.given, baseline.sparsity) == (small.path, 0)
    assert measured.is_given
    channels = [weights_table(load_artifact(each.path)).layers[3].shape[0] for each in found[:2]]
    assert channels == [4, 2]


def test_the_dense_network_before_takes_samples_where_the_shrunk_file_does(shrunk, tmp_path):
    source, small, _ = shrunk
    file = replace(small, metadata=small.metadata | {INPUT: SAMPLES})
    baseline, *_ = Gathering(tmp_path, ["onnxruntime"]).candidates([file], silent, source)
    assert load_artifact(baseline.path).takes_samples
    assert weights_table(load_artifact(baseline.path)).parameters > weights_table(small).parameters


def test_a_shrunk_file_shares_the_baseline_of_what_is_given_with_it(shrunk, tmp_path):
    _, small, whole = shrunk
    found = Gathering(tmp_path).candidates([small, whole], silent)
    assert [(each.given, each.artifact, each.baseline) for each in found] == [
        (small.path, "dense", True),
        (small.path, "shrunk", False),
        (whole.path, "sparse", False),
        (small.path, "shrunk", False),
    ]


def test_a_shrunk_file_has_the_dense_network_before_in_its_own_engine_too(shrunk, tmp_path):
    pytest.importorskip("MNN")
    source, graph, _ = shrunk
    exporter_of(format_named("mnn")).write(graph, tmp_path / "small.mnn", DENSE)
    small = load_artifact(tmp_path / "small.mnn")
    (tmp_path / "folder").mkdir()
    found = Gathering(tmp_path / "folder", ["mnn"]).candidates([small], silent, source)
    assert [(each.engine, each.artifact, each.baseline) for each in found] == [
        ("onnxruntime", "dense", True),
        ("mnn", "dense", False),
        ("mnn", "shrunk", False),
    ]
    assert found[1].given == small.path
    whole, left = (weights_table(load_artifact(each.path)) for each in found[1:])
    assert whole.parameters > left.parameters


def test_pytorchs_row_is_of_the_model_that_it_runs(artifacts, tmp_path):
    """An int8 graph is none."""
    whole = load_artifact(artifacts["onnx"])
    table = weights_table(whole)
    copy = shutil.copy(whole.path, tmp_path / "m8.onnx")
    rounded = replace(whole, path=copy, table=table, obstacle="it is int8")
    found = Gathering(tmp_path, ["pytorch"]).candidates([rounded, whole], silent)
    assert [each.given for each in found if each.engine == "pytorch"] == [whole.path]


def test_an_unknown_engine_and_bare_weights_are_refused(artifacts, tmp_path):
    with pytest.raises(SparsifyError, match="did you mean 'onnxruntime'"):
        Gathering(tmp_path, ["onnxruntim"]).candidates([load_artifact(artifacts["onnx"])], silent)
    with pytest.raises(SparsifyError, match="does not say which network it is"):
        benchmark([load_artifact(artifacts["pt"])])


def test_a_candidate_that_fails_is_named(artifacts, monkeypatch):
    def fails(*_):
        raise SparsifyError("it does not run")

    monkeypatch.setattr("sparsify.exporters.onnx.exporter.onnx_network", fails)
    with pytest.raises(SparsifyError, match="it does not run"):
        benchmark([load_artifact(artifacts["onnx"])])


def _breaks(monkeypatch, runner, broken):
    """Candidates for which `broken` holds fail in their third turn."""
    measure, turns_of = runner.turn, {}

    def turn(self, *shape):
        turns_of[self] = turns_of.get(self, 0) + 1
        if broken(self.candidate) and turns_of[self] == 3:
            raise SparsifyError(f"{self.candidate.label} has ended")
        return measure(self, *shape)

    monkeypatch.setattr(runner, "turn", turn)


def test_a_candidate_that_fails_while_it_is_measured_is_left_out(
    artifacts, monkeypatch, short_benchmark
):
    _breaks(monkeypatch, short_benchmark, lambda each: each.engine == PYTORCH)
    result = benchmark([load_artifact(artifacts["onnx"])], frames=(20, 30))
    measured = [(row.frames, row.engine, row.artifact) for row in result.rows]
    kinds = (("onnxruntime", "dense"), ("onnxruntime", "sparse"))
    assert measured == [(frames, *kind) for frames in (20, 30) for kind in kinds]
    assert result.left_out == (f"Left out: '{artifacts['onnx']}' (sparse) in pytorch has ended",)
    assert "pytorch" not in result.machine.engines


def test_without_a_baseline_nothing_of_a_network_is_measured(
    artifacts, monkeypatch, short_benchmark
):
    _breaks(monkeypatch, short_benchmark, lambda each: each.baseline)
    with pytest.raises(SparsifyError, match=r"\(dense\) in onnxruntime has ended"):
        benchmark([load_artifact(artifacts["onnx"])], frames=(20,))


def test_what_is_for_another_machine_is_left_out(artifacts, tmp_path, monkeypatch):
    here = load_artifact(artifacts["onnx"])
    there = replace(here, path=tmp_path / "there")
    exporter = exporter_of(here.format)
    monkeypatch.setattr(type(exporter), "emulated", lambda _, artifact: artifact is there)
    (tmp_path / "made").mkdir()
    gathering = Gathering(tmp_path / "made")
    found = gathering.candidates([there, here], silent)
    assert {each.given for each in found} == {here.path}
    (sentence,) = gathering.left_out
    assert sentence.startswith(f"'{there.path}' is left out: it is for another kind of machine")
    with pytest.raises(SparsifyError, match="is for another kind of machine"):
        Gathering(tmp_path).candidates([there], silent)


def test_the_number_of_rounds_fits_the_time(monkeypatch):
    class Fake:
        candidate = None

        def __init__(self):
            self.calls = 0

        def turn(self, batch, frames, calls):
            self.calls += 1
            return [1.0] * calls, 5

    monkeypatch.setattr(turns, "_SECONDS", 5)
    monkeypatch.setattr(turns, "_FEWEST", 12)
    for seconds, rounds in ((0.001, 50), (0.25, 20), (30, 12)):
        now = iter([0.0, seconds])
        monkeypatch.setattr(turns.time, "monotonic", lambda now=now: next(now))
        fake = Fake()
        ((_, times),) = turns.take_turns(turns.Field([fake]), 1, 200, None, silent, "")
        assert (len(times.rounds), fake.calls, times.peak_bytes) == (rounds, rounds + 1, 5)


def test_the_fastest_engine_of_each_setting_counts():
    row = Latency("a", "sparse", "fp32", 1, 1, 200, 5, 5, 5, 2, 1.9, 2.1, 0, 0, 1, 1, "m", 0.9)
    twin = replace(row, engine="b", artifact="dense", median_ms=1)
    slow, other = replace(row, engine="c", median_ms=9), replace(row, frames=50, engine="c")
    context = replace(row, engine="pytorch", median_ms=1)
    result = Benchmark(None, (twin, slow, row, other, context))
    assert result.fastest("m") == [row, other]


def test_any_rows_of_a_setting_compare_round_by_round():
    row = Latency("a", "sparse", "fp32", 1, 1, 200, 5, 5, 5, 2, 1.9, 2.1, 0, 0, 1, 1, "m", 0.9)
    other = replace(row, path="n", median_ms=10)
    noise = [1.0, 3.0, 2.0, 1.0, 1.0, 4.0, 1.0]
    rounds = ([5 * each for each in noise], [10 * each for each in noise])
    result = Benchmark(None, (row, other), (), rounds)
    found = result.speedup_over(row, other)
    assert (found.median, found.low, found.high) == pytest.approx((2, 2 / 1.02, 2 * 1.02))
    assert result.speedup_over(other, other).median == 1
