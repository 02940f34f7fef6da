import json

import pytest

from sparsify.artifact.artifact import load_artifact
from sparsify.benchmarks import inference
from sparsify.benchmarks.inference import benchmark, describe_machine, main
from sparsify.exporters.onnx.exporter import OnnxExporter
from sparsify.progress import silent


@pytest.fixture(scope="module")
def result(artifacts):
    return benchmark(load_artifact(artifacts["onnx"]), frames=20, batch=2, rounds=2)


def test_every_candidate_is_measured_with_one_thread_and_all_cores(result):
    threads = sorted({1, result.machine.cores})
    expected = [
        (engine, artifact, count)
        for count in threads
        for engine, artifact in (
            ("onnxruntime", "dense"),
            ("onnxruntime", "sparse"),
            ("pytorch", "sparse"),
        )
    ]
    assert [(row.engine, row.artifact, row.threads) for row in result.rows] == expected


def test_rows_are_consistent(result, artifacts):
    for row in result.rows:
        assert (row.precision, row.frames, row.batch) == ("fp32", 20, 2)
        assert 0 < row.min_ms <= row.median_ms <= row.p90_ms
        assert row.bytes == pytest.approx(artifacts["onnx"].stat().st_size, abs=100)
        (baseline,) = (
            each.median_ms
            for each in result.rows
            if (each.engine, each.artifact, each.threads) == ("onnxruntime", "dense", row.threads)
        )
        assert row.speedup == baseline / row.median_ms


def test_the_machine_is_described():
    machine = describe_machine()
    assert machine.cores >= 1
    assert all((machine.cpu, machine.isa, machine.torch, machine.onnxruntime))


def test_candidates_take_turns(artifacts, monkeypatch):
    calls, tracked = [], []

    def network(name):
        return lambda feats: calls.append(name) or feats.mean(1)

    def track(items, description, total):
        tracked.append((description, total))
        return silent(items, description, total)

    monkeypatch.setattr(
        OnnxExporter, "network", lambda self, artifact, threads: network(artifact.path.stem)
    )
    monkeypatch.setattr(inference, "torch_network", lambda model, threads: network("torch"))
    monkeypatch.setattr(inference, "available_cores", lambda: 1)
    benchmark(load_artifact(artifacts["onnx"]), frames=5, rounds=3, track=track)
    turn = [name for name in ("dense", "model", "torch") for _ in range(4)]
    assert calls == 3 * turn
    assert tracked == [("Latency, threads: 1", 3)]


def test_the_module_prints_json(artifacts, capsys, monkeypatch):
    monkeypatch.setattr(inference, "available_cores", lambda: 1)
    assert main([str(artifacts["onnx"]), "--json", "--frames", "10"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["machine"]["cores"] == 1
    assert [row["frames"] for row in printed["rows"]] == [10, 10, 10]


def test_the_module_prints_a_sentence_about_bad_input(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "missing.onnx")])
    assert caught.value.code == 2
    assert "no such file" in capsys.readouterr().err
