"""Methods on held-out speakers: which speakers, and the differences between known figures."""

import numpy as np
import pytest

from sparsify.benchmarks.held_out import MEAN, HeldOut, differences, verify
from sparsify.corpus.layouts import load_corpus
from sparsify.corpus.synthetic import write_synthetic
from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import load_recipe
from sparsify.training.trainer import train


def figures(method, seed, *eer_percents, resampled=None):
    rates = np.array(eer_percents, dtype=float)
    if resampled is None:
        resampled = np.repeat(rates[:, None], 50, axis=1)
    return HeldOut(method, seed, frozenset({seed}), rates, resampled)


def test_differences_of_known_figures():
    one = [figures("a", 3, 4, 10), figures("a", 4, 6, 12)]
    two = [figures("b", 3, 5, 12), figures("b", 4, 9, 14)]
    clean, room, overall = differences(one, two, ("clean", "room"))
    assert clean == {"condition": "clean", "eer_percent": -2, "low": -3, "high": -1} | {
        "by_seed": [-1, -3]
    }
    # Every seed gives the same, and so does every sample of speakers.
    assert room == {"condition": "room", "eer_percent": -2, "low": -2, "high": -2} | {
        "by_seed": [-2, -2]
    }
    assert overall["condition"] == MEAN
    assert overall["by_seed"] == [-1.5, -2.5]


def test_a_sample_without_trials_of_a_seed_is_left_to_the_others():
    lost = np.array([[np.nan, 5.0] * 25])
    one = [figures("a", 0, 5, resampled=lost), figures("a", 1, 5)]
    two = [figures("b", 0, 6), figures("b", 1, 6)]
    clean, _ = differences(one, two, ("clean",))
    assert (clean["low"], clean["high"]) == (-1, -1)


def test_seeds_must_be_the_same():
    with pytest.raises(SparsifyError, match="same seeds"):
        differences([figures("a", 0, 1)], [figures("b", 1, 1)], ("clean",))


def test_a_run_is_tested_on_the_speakers_that_it_held_out(tmp_path):
    speech = tmp_path / "speech"
    write_synthetic(speech, 8, 3, seed=0)
    changes = {"data.path": str(speech), "training.steps": 1, "data.validation_speakers": 3}
    changes |= {"training.batch_size": 2, "training.compile": False, "seed": 5}
    changes |= {"model.options": {"channels": 16, "aggregation_channels": 16}}
    train(load_recipe("speech-mini", changes=changes), tmp_path / "run")
    corpus = load_corpus(speech)
    found = verify(
        tmp_path / "run",
        corpus,
        {"clean": speech, "again": speech, "noisy": speech},
        np.ones((2, 8), dtype=np.int64),
    )
    drawn = np.random.default_rng(5).permutation(8)[:3]
    assert found.speakers == frozenset(drawn.tolist())
    assert (found.method, found.seed) == ("adabreg", 5)
    assert found.eer_percents[0] == found.eer_percents[1]
    # Every speaker drawn once gives the EER itself.
    assert found.resampled == pytest.approx(np.repeat(found.eer_percents[:, None], 2, axis=1))
