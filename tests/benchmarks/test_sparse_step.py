"""The benchmark of steps without zeros: what it measures, at a size that takes no time."""

from sparsify.benchmarks import sparse_step


def test_every_variant_is_compared_with_the_dense_step(monkeypatch):
    monkeypatch.setattr(sparse_step, "ROUNDS", 2)
    monkeypatch.setattr(sparse_step, "SPEAKERS", 4)
    monkeypatch.setattr(sparse_step, "NETWORKS", {"tiny": (16, 16)})
    monkeypatch.setattr(sparse_step, "SPARSITIES", (0.95,))
    result = sparse_step.measure({"training.batch_size": 4, "data.crop_seconds": 0.3})
    (row,) = result["networks"]["tiny"]
    assert row["batch"] == [4, 30, 80]
    assert row["variants"].keys() - {"dense, bf16"} == {
        "dense",
        "sparse, before the landing",
        "sparse, after the landing",
    }
    assert row["variants"]["dense"]["speedup"]["median"] == 1
