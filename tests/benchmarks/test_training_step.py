"""The benchmark of training steps: what it measures, at a size that takes no time."""

from sparsify.benchmarks import training_step
from sparsify.benchmarks.training_step import measure
from sparsify.training import learner


def test_every_variant_and_part_is_measured(monkeypatch):
    for name in ("ROUNDS", "STEPS_PER_ROUND"):
        monkeypatch.setattr(training_step, name, 1)
    monkeypatch.setattr(training_step, "SPEAKERS", 4)
    compiled = []
    monkeypatch.setattr(learner, "compiled", lambda network, _: compiled.append(1) or network)
    tiny = {
        "model.options": {"channels": 8, "aggregation_channels": 8, "embedding_dim": 8},
        "data.crop_seconds": 0.3,
        "training.batch_size": 4,
        "training.workers": 0,
    }
    result = measure(tiny)
    assert result["batch"] == [4, 4800]
    assert [(row["precision"], row["compiled"]) for row in result["variants"]] == [
        ("fp32", False),
        ("fp32", True),
        ("bf16", False),
        ("bf16", True),
    ]
    assert len(compiled) == 2
    assert result["variants"][0]["speedup"] == 1
    assert result["parts"].keys() == {
        "optimizer_ms",
        "sparsity_control_ms_per_step",
        "calibration_ms_per_step_of_the_ramp",
        "control_share_of_training",
        "batch_in_one_worker_ms",
        "features_ms",
    }
