"""Differences with paired intervals, against samples drawn by hand."""

from itertools import product

import numpy as np
import pytest

from sparsify.comparison.differences import OVERALL, differences, unsampled
from sparsify.comparison.wording import difference_text, is_clear


def run(method, target, seed, eer, samples, trials="abc"):
    confidence = None if samples is None else {"resampled_eer_percent": list(samples)}
    tests = {"clean": {"eer_percent": eer, "confidence": confidence, "trials_sha256": trials}}
    name = f"{method}-{seed}"
    return {"run": name, "method": method, "target_sparsity": target, "seed": seed, "tests": tests}


def pair(found, method, against, test="clean"):
    wanted = (method, against, test)
    (row,) = (r for r in found if (r["method"], r["against"], r["test"]) == wanted)
    return row


def test_of_single_runs_the_interval_is_that_of_the_differences_sample_by_sample():
    rng = np.random.default_rng(0)
    hard = rng.normal(8, 2, 1000)  # how hard the speakers are that a sample has drawn
    ours, theirs = hard + rng.normal(0, 0.1, 1000), hard + 0.5 + rng.normal(0, 0.1, 1000)
    found = differences(
        [run("gmp", 0.9, 0, 8.5, theirs), run("adabreg", 0.9, 0, 8.0, ours)], ["clean"]
    )
    row = pair(found, "adabreg", "gmp")
    low, high = np.percentile(ours - theirs, [2.5, 97.5])
    assert (row["eer_percent"], row["low"], row["high"]) == pytest.approx((-0.5, low, high))
    # Alone, each is known to four points; what is hard for both cancels.
    assert row["high"] - row["low"] < 1 < np.ptp(np.percentile(ours, [2.5, 97.5]))
    assert is_clear(row)
    other = pair(found, "gmp", "adabreg")
    assert (other["low"], other["high"]) == pytest.approx((-high, -low))


def test_seeds_add_their_spread_as_a_bootstrap_of_their_mean_has_it():
    """Without speakers' noise the interval is that of the mean of three draws out of three."""
    means = [6.0, 7.0, 8.0]
    rows = [run("gmp", 0.9, seed, eer, np.full(20_000, eer)) for seed, eer in enumerate(means)]
    rows += [run("dense", None, 3, 7.0, np.full(20_000, 7.0))]
    row = pair(differences(rows, ["clean"]), "gmp", "dense")
    assert row["eer_percent"] == pytest.approx(0)
    # All 27 draws: a mean of 6 or of 8 has probability 1/27, more than 2.5 %.
    assert (row["low"], row["high"]) == pytest.approx((-1, 1))
    assert difference_text(row) == "+0.00 [−1.00, +1.00]"
    assert not is_clear(row)


def test_what_a_seed_does_to_both_cancels():
    rows = [
        run(method, target, seed, 6.0 + seed + shift, np.full(100, 6.0 + seed + shift))
        for method, target, shift in (("dense", None, 0.0), ("gmp", 0.9, 0.25))
        for seed in ((0, 1, 2) if target else (2, 0, 1))  # whatever their order
    ]
    row = pair(differences(rows, ["clean"]), "gmp", "dense")
    assert (row["low"], row["high"]) == pytest.approx((0.25, 0.25))


def test_seeds_that_only_one_method_has_are_left_out():
    """What a seed does is the same for both, so the third run says nothing of the difference."""
    rng = np.random.default_rng(0)
    ours = [run("gmp", 0.9, seed, 5.0 + seed, rng.normal(5.0 + seed, 1, 50)) for seed in (2, 0, 1)]
    theirs = [run("rigl", 0.9, seed, 5.5, rng.normal(5.5, 1, 50)) for seed in (1, 3, 2)]
    shared = [row for row in ours + theirs if row["seed"] in (1, 2)]
    row = pair(differences([*ours, *theirs], ["clean"]), "gmp", "rigl")
    assert row == pair(differences(shared, ["clean"]), "gmp", "rigl")
    assert row["eer_percent"] == pytest.approx((6.0 + 7.0) / 2 - 5.5)
    assert (row["seeds"], row["by_seed"]) == ([1, 2], [6.0 - 5.5, 7.0 - 5.5])
    reversed_row = pair(differences([*ours, *theirs], ["clean"]), "rigl", "gmp")
    assert reversed_row["by_seed"] == [5.5 - 6.0, 5.5 - 7.0]


def test_without_a_common_seed_they_are_drawn_by_themselves():
    """The interval of a difference of means of three and of two runs, by all their draws."""
    rows = [run("gmp", 0.9, n, v, np.full(50_000, v)) for n, v in enumerate([1.0, 2.0, 6.0])]
    rows += [run("rigl", 0.9, n, v, np.full(50_000, v)) for n, v in ((3, 4.0), (4, 8.0))]
    row = pair(differences(rows, ["clean"]), "gmp", "rigl")
    every = [
        np.mean(ours) - np.mean(theirs)
        for ours in product([1.0, 2.0, 6.0], repeat=3)
        for theirs in product([4.0, 8.0], repeat=2)
    ]
    low, high = np.percentile(every, [2.5, 97.5])
    assert row["eer_percent"] == pytest.approx(-3)
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert (row["seeds"], row["by_seed"]) == (None, None)


def test_runs_without_samples_are_left_out_and_named():
    rng = np.random.default_rng(0)
    rows = [
        run(method, target, seed, eer + seed, rng.normal(eer + seed, 1, 50) if seed else None)
        for method, target, eer in (("dense", None, 6.0), ("gmp", 0.9, 5.0))
        for seed in (0, 1, 2)
    ]
    rows[0]["tests"]["clean"]["eer_percent"] = 1000.0
    kept = [row for row in rows if row["seed"]]
    assert differences(rows, ["clean"]) == differences(kept, ["clean"])
    assert pair(differences(rows, ["clean"]), "gmp", "dense")["eer_percent"] == pytest.approx(-1)
    assert unsampled(rows, ["clean"]) == ["dense-0", "gmp-0"]
    assert unsampled([row for row in rows if not row["seed"]], ["clean"]) == []  # nothing was


def test_the_mean_of_all_test_sets_is_compared_like_one():
    """By hand, sample by sample; runs that lack one of the sets are not in it."""
    rng = np.random.default_rng(0)
    rows = [run(method, 0.9, 0, 0, rng.normal(size=99)) for method in ("gmp", "rigl", "rewa")]
    noisy = rng.normal(size=(2, 99))
    for row, eer, samples in zip(rows, (3.0, 1.0), noisy, strict=False):
        row["tests"] |= run("", 0.9, 0, eer, samples)["tests"] | {"noisy": row["tests"]["clean"]}
    found = differences(rows, ["clean", "noisy"])
    row = pair(found, "gmp", "rigl", OVERALL)
    gmp, rigl = (
        np.mean([test["confidence"]["resampled_eer_percent"] for test in r["tests"].values()], 0)
        for r in rows[:2]
    )
    low, high = np.percentile(gmp - rigl, [2.5, 97.5])
    assert (row["eer_percent"], row["low"], row["high"]) == pytest.approx((1.0, low, high))
    assert [r["method"] for r in found if r["test"] == OVERALL] == ["gmp", "rigl"]
    assert OVERALL not in {r["test"] for r in differences(rows, ["clean"])}


def test_no_difference_has_no_sign():
    rows = [run(method, 0.9, 0, 7.0, np.full(50, 7.0)) for method in ("gmp", "rigl")]
    for row in differences(rows, ["clean"]):
        assert difference_text(row) == "+0.00 [+0.00, +0.00]"
    tiny = {"eer_percent": -0.001, "low": -0.0049, "high": 0.0}
    assert difference_text(tiny) == "+0.00 [+0.00, +0.00]"


def test_only_what_compares_is_compared():
    rng = np.random.default_rng(0)
    rows = [
        run("dense", None, 0, 7.0, rng.normal(7, 1, 50)),
        run("gmp", 0.9, 0, 7.0, rng.normal(7, 1, 50)),
        run("gmp", 0.95, 0, 7.0, rng.normal(7, 1, 50)),
        run("rigl", 0.95, 0, 7.0, None),  # not resampled
        run("one-shot", 0.95, 0, 7.0, rng.normal(7, 1, 50), "other trials"),
        run("prox-sgd", 0.95, 0, 7.0, rng.normal(7, 1, 50)),  # seeds on different trials
        run("prox-sgd", 0.95, 1, 7.0, rng.normal(7, 1, 50), "other trials"),
    ]
    found = differences(rows, ["clean"])
    assert {(r["method"], r["target_sparsity"], r["against"]) for r in found} == {
        ("dense", 0.9, "gmp"),
        ("dense", 0.95, "gmp"),
        ("gmp", 0.9, "dense"),
        ("gmp", 0.95, "dense"),
    }


def test_so_many_methods_are_not_compared_in_pairs(caplog):
    rows = [run(f"m{n}", 0.9, 0, 7.0, np.full(5, 7.0)) for n in range(70)]
    assert differences(rows, ["clean"]) == []
    assert "70 kinds of models are too many to compare every two of them" in caplog.text
    assert len(differences(rows[:60], ["clean"])) == 60 * 59
