"""Event files hold what the metrics hold, each point once."""

import json
import sys

import numpy as np
import pytest

from sparsify.comparison.plan import Plan
from sparsify.errors import SparsifyError
from sparsify.methods.registry import resolve
from sparsify.recipe.recipe import load_recipe
from sparsify.training.preview import preview
from sparsify.training.trainer import train

RECIPE = load_recipe(
    "quickstart",
    [
        "model.options={channels: 16, aggregation_channels: 32, embedding_dim: 16}",
        "data.synthetic_speakers=6",
        "data.synthetic_utterances=3",
        "data.validation_speakers=2",
        "data.crop_seconds=0.4",
        "training={steps: 6, batch_size: 8, log_every: 1, validate_every: 3, workers: 0}",
        "training.tensorboard=true",
    ],
)


def test_every_figure_of_the_metrics_is_there_once_though_the_run_was_interrupted(
    tmp_path, stop_at
):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, run, device="cpu", observer=stop_at(5))
    assert read(reading, run)["training/loss"].keys() == {1, 2, 3, 4}
    train(RECIPE, run, device="cpu", resume=True)
    expected = {}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        for name, value in record.items():
            if value is not None and name not in ("step", "selected"):
                expected.setdefault(name, {})[record["step"]] = np.float32(value)
    assert expected["eer_percent"].keys() == {3, 6}
    found = read(reading, run)
    seconds = found.pop("training/seconds_per_step")
    assert seconds.keys() == expected["loss"].keys()
    assert min(seconds.values()) > 0
    assert {tag.partition("/")[2]: points for tag, points in found.items()} == expected
    assert found.keys() >= {"training/lr", "sparsity/lambda", "validation/min_dcf"}


def read(reading, run):
    """The points of every curve as TensorBoard shows them, by step; no step has two."""
    events = reading.EventAccumulator(str(run / "tensorboard")).Reload()
    curves = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    steps = {tag: [each.step for each in points] for tag, points in curves.items()}
    assert all(sorted({*own}) == own for own in steps.values())
    return {tag: {each.step: each.value for each in points} for tag, points in curves.items()}


@pytest.mark.parametrize(
    "begin",
    [
        lambda run: train(RECIPE, run),
        lambda run: preview(resolve(RECIPE)),
        lambda run: Plan(recipe=RECIPE, runs=(), tests=()).check(),
    ],
)
def test_without_tensorboard_nothing_begins(begin, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(SparsifyError, match=r"pip install 'sparsify-speaker\[tensorboard\]'"):
        begin(tmp_path / "run")
    assert not (tmp_path / "run").exists()
