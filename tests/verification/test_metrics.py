"""EER and minDCF against scikit-learn's ROC, closed forms and their invariances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from sparsify.errors import SparsifyError
from sparsify.verification.metrics import DetectionCost, eer, min_dcf, operating_points


@st.composite
def labelled_scores(draw):
    """Scores with many ties, and labels of both kinds."""
    labels = draw(
        st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda x: 0 < sum(x) < len(x))
    )
    scores = draw(st.lists(st.integers(-6, 6), min_size=len(labels), max_size=len(labels)))
    return np.array(scores) / 6, np.array(labels)


def sklearn_eer(scores, labels):
    false_alarm, hit, _ = roc_curve(labels, scores)
    return 100 * brentq(lambda rate: 1 - rate - np.interp(rate, false_alarm, hit), 0, 1)


def sklearn_min_dcf(scores, labels, p_target, c_miss, c_fa):
    false_alarm, hit, _ = roc_curve(labels, scores, drop_intermediate=False)
    costs = c_miss * p_target * (1 - hit) + c_fa * (1 - p_target) * false_alarm
    return costs.min() / min(c_miss * p_target, c_fa * (1 - p_target))


@given(labelled_scores())
def test_eer_equals_scikit_learns_interpolated_roc(data):
    scores, labels = data
    assert eer(scores, labels) == pytest.approx(sklearn_eer(scores, labels), abs=1e-6)


@given(
    labelled_scores(),
    st.floats(0.001, 0.999),
    st.floats(0.1, 10),
    st.floats(0.1, 10),
)
def test_min_dcf_equals_scikit_learns_roc(data, p_target, c_miss, c_fa):
    scores, labels = data
    expected = sklearn_min_dcf(scores, labels, p_target, c_miss, c_fa)
    assert min_dcf(scores, labels, p_target, c_miss, c_fa) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 3, 12])
def test_large_lists_equal_scikit_learn(decimals):
    rng = np.random.default_rng(0)
    labels = rng.random(20_000) < 0.1
    scores = np.round(rng.standard_normal(20_000) + 1.5 * labels, decimals)
    assert eer(scores, labels) == pytest.approx(sklearn_eer(scores, labels), abs=1e-8)
    assert min_dcf(scores, labels) == pytest.approx(
        sklearn_min_dcf(scores, labels, 0.01, 1, 1), abs=1e-12
    )


def test_gaussian_scores_approach_the_closed_form():
    # Two unit Gaussians 2 apart cross at 1: the EER is Φ(−1) = 15.866 %.
    rng = np.random.default_rng(0)
    labels = np.arange(400_000) % 2 == 0
    scores = rng.standard_normal(400_000) + 2 * labels
    assert eer(scores, labels) == pytest.approx(15.866, abs=0.15)


def test_separable_scores_have_no_errors():
    scores, labels = [3.0, 2.0, 1.0, 0.0], [1, 1, 0, 0]
    assert eer(scores, labels) == 0
    assert min_dcf(scores, labels) == 0


def test_inverted_scores_are_all_errors():
    scores, labels = [0.0, 1.0, 2.0, 3.0], [1, 1, 0, 0]
    assert eer(scores, labels) == 100
    assert min_dcf(scores, labels) == 1


def test_equal_scores_are_chance():
    assert eer(np.zeros(10), np.arange(10) < 3) == pytest.approx(50)
    assert min_dcf(np.zeros(10), np.arange(10) < 3) == 1


def test_a_case_by_hand():
    # Descending: T T N T N N T N. After four accepted, 1 of 4 targets is missed and 1 of 4
    # nontargets accepted: 25 %. At p = 0.01 the cheapest threshold accepts the first two:
    # half the targets missed, no false alarm, normalised cost 0.5. At p = 0.5 it accepts four:
    # (0.25 + 0.25)·0.5 / 0.5 = 0.5; accepting two costs the same.
    scores = [8, 7, 6, 5, 4, 3, 2, 1]
    labels = [1, 1, 0, 1, 0, 0, 1, 0]
    assert eer(scores, labels) == pytest.approx(25)
    assert min_dcf(scores, labels) == pytest.approx(0.5)
    assert min_dcf(scores, labels, p_target=0.5) == pytest.approx(0.5)
    # At p = 0.9 it accepts seven: no miss, 3 of 4 nontargets accepted.
    assert min_dcf(scores, labels, p_target=0.9) == pytest.approx(0.75)


@given(labelled_scores())
def test_increasing_transforms_change_nothing(data):
    scores, labels = data
    warped = np.exp(scores) + scores**3
    assert eer(warped, labels) == eer(scores, labels)
    assert min_dcf(warped, labels) == min_dcf(scores, labels)


@given(labelled_scores())
def test_exchanging_the_roles_keeps_the_eer(data):
    scores, labels = data
    assert eer(-scores, ~labels) == pytest.approx(eer(scores, labels), abs=1e-9)


@pytest.mark.parametrize(("labels", "kind"), [([1, 1], "nontarget"), ([0, 0], "target")])
def test_both_kinds_are_needed(labels, kind):
    for metric in (eer, min_dcf):
        with pytest.raises(SparsifyError, match=f"no {kind} trials"):
            metric([0.1, 0.2], labels)


def test_scores_must_be_finite_and_match_the_labels():
    with pytest.raises(SparsifyError, match="1 of 2 scores are not finite"):
        eer([0.1, np.nan], [1, 0])
    with pytest.raises(SparsifyError, match="one length"):
        eer([0.1, 0.2, 0.3], [1, 0])


@pytest.mark.parametrize("p_target", [0.0, 1.0, -0.1, 2.0])
def test_p_target_must_be_a_probability(p_target):
    with pytest.raises(SparsifyError, match="between 0 and 1"):
        min_dcf([0.1, 0.2], [1, 0], p_target)


@given(labelled_scores())
def test_operating_points_are_scikit_learns_roc(data):
    scores, labels = data
    false_alarm, hit, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    points = operating_points(scores, labels)
    np.testing.assert_allclose(points.false_alarm, false_alarm, atol=1e-12)
    np.testing.assert_allclose(points.miss, 1 - hit, atol=1e-12)
    np.testing.assert_array_equal(points.lowest_accepted, thresholds)


@given(labelled_scores())
def test_corners_give_the_same_curve(data):
    scores, labels = data
    points = operating_points(scores, labels)
    corners = points.corners()
    assert corners.eer == pytest.approx(points.eer, abs=1e-9)
    for p_target in (0.01, 0.3, 0.9):
        cost = DetectionCost(p_target)
        assert corners.min_dcf(cost) == points.min_dcf(cost)
    # Every point that was dropped lies on a straight stretch between two that were kept.
    kept = set(zip(corners.false_alarm.tolist(), corners.miss.tolist(), strict=True))
    for x, y in zip(points.false_alarm.tolist(), points.miss.tolist(), strict=True):
        if (x, y) not in kept:
            assert any(x == a for a, _ in kept) or any(y == b for _, b in kept)


@given(labelled_scores(), st.floats(0.01, 0.99))
def test_thresholds_give_the_rates_they_are_named_for(data, p_target):
    scores, labels = data
    points, cost = operating_points(scores, labels), DetectionCost(p_target, 2, 3)

    def rates(threshold):
        accepted = scores >= threshold
        return np.mean(~accepted[labels]), np.mean(accepted[~labels])

    miss, false_alarm = rates(points.min_dcf_threshold(cost))
    assert cost.of(miss, false_alarm) == pytest.approx(points.min_dcf(cost), abs=1e-12)
    miss, false_alarm = rates(points.eer_threshold())
    nearest = min(abs(np.subtract(*rates(t))) for t in [*scores, np.inf])
    assert abs(miss - false_alarm) == pytest.approx(nearest, abs=1e-12)


def test_a_threshold_lies_midway_between_scores():
    points = operating_points([4.0, 3.0, 1.0, 0.0], [1, 1, 0, 0])
    assert points.eer_threshold() == 2
    assert points.min_dcf_threshold(DetectionCost()) == 2


@pytest.mark.parametrize("costs", [(0.0, 1.0), (1.0, -1.0), (float("inf"), 1.0)])
def test_costs_must_be_positive(costs):
    with pytest.raises(SparsifyError, match="positive"):
        min_dcf([0.1, 0.2], [1, 0], 0.01, *costs)
