"""The search for λ on convex problems that scikit-learn solves, against bisection."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso, LogisticRegression

from sparsify.optim.prescribed import LambdaSearch, lambda_leaving


def _regression(seed, samples=120, features=40):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features)) @ (np.eye(features) + 0.3)
    y = x @ (rng.normal(size=features) * (rng.random(features) < 0.4)) + 4 * rng.normal(
        size=samples
    )
    return x, y


def _lasso(x, y):
    """Solution and gradient of `‖xw − y‖²/2n` at a λ."""

    def solve(lam):
        model = Lasso(alpha=lam, fit_intercept=False, tol=1e-10, max_iter=50_000)
        w = model.fit(x, y).coef_
        return w, x.T @ (x @ w - y) / len(y)

    return solve


def _logistic(x, y):
    """Solution and gradient of the mean logistic loss at a λ."""
    labels = np.sign(y)

    def solve(lam):
        model = LogisticRegression(
            C=1 / (lam * len(y)),
            l1_ratio=1,
            solver="liblinear",
            fit_intercept=False,
            tol=1e-8,
            max_iter=2000,
        )
        w = model.fit(x, labels).coef_[0]
        return w, -x.T @ (labels / (1 + np.exp(labels * (x @ w)))) / len(y)

    return solve


def _search(solve, nonzero, rounds=60):
    search = LambdaSearch(nonzero)
    lam = lambda_leaving(torch.from_numpy(solve(1e6)[1]), nonzero)  # of the gradients at w = 0
    path = []
    for _ in range(rounds):
        w, gradient = solve(lam)
        path.append(np.count_nonzero(abs(w) > 1e-9))  # what rounding leaves is zero
        if path[-1] == nonzero:
            break
        lam = search.next(lam, torch.from_numpy(gradient), path[-1])
    return lam, path


def _bisected(solve, nonzero):
    """The interval of λ with that many nonzeros, between the last λ with more and fewer."""
    edges = []
    for wanted in (nonzero, nonzero - 1):
        low, high = 1e-2, 1e2
        for _ in range(40):
            middle = (low * high) ** 0.5
            if np.count_nonzero(solve(middle)[0]) > wanted:
                low = middle
            else:
                high = middle
        edges.append(high)
    return edges


@pytest.mark.parametrize(("problem", "nonzero"), [(_lasso, 2), (_lasso, 15), (_logistic, 7)])
def test_finds_the_lambda_that_bisection_finds(problem, nonzero):
    x, y = _regression(1)
    solve = problem(x, y)
    lam, path = _search(solve, nonzero)
    assert path[-1] == nonzero
    lowest, highest = _bisected(solve, nonzero)
    assert lowest * (1 - 1e-4) <= lam <= highest * (1 + 1e-4)


def test_orthonormal_design_knows_lambda_at_once():
    """There gradients off the support do not depend on it, so that zero weights tell."""
    x, y = _regression(2)
    x = np.linalg.qr(x)[0] * len(y) ** 0.5
    _, path = _search(_lasso(x, y), 11)
    assert path == [11]


def test_from_the_dense_side_too():
    x, y = _regression(3)
    solve, search, lam = _lasso(x, y), LambdaSearch(10), 1e-4
    for _ in range(60):
        w, gradient = solve(lam)
        lam = search.next(lam, torch.from_numpy(gradient), np.count_nonzero(w))
    assert np.count_nonzero(solve(lam)[0]) == 10


def test_one_lambda_for_each_block():
    x, y = _regression(4)
    blocks, wanted = [slice(0, 10), slice(10, 25), slice(25, 40)], [3, 4, 6]
    searches = [LambdaSearch(nonzero) for nonzero in wanted]

    def solve(lambdas):
        scale = np.repeat(lambdas, [10, 15, 15])  # λ_j|w_j| = |u_j| with w = u/λ
        u, gradient = _lasso(x / scale, y)(1.0)
        return u / scale, gradient * scale

    gradient = torch.from_numpy(solve(np.full(3, 1e6))[1])
    lambdas = [lambda_leaving(gradient[b], k) for b, k in zip(blocks, wanted, strict=True)]
    for _ in range(100):
        w, g = solve(np.array(lambdas))
        lambdas = [
            search.next(lam, torch.from_numpy(g[block]), np.count_nonzero(w[block]))
            for search, lam, block in zip(searches, lambdas, blocks, strict=True)
        ]
    assert [np.count_nonzero(w[block]) for block in blocks] == wanted


@pytest.mark.parametrize("free", [0, 1, 3, 6])
def test_lambda_leaves_so_many_above(free):
    values = torch.tensor([[0.5, -3.0, 2.0], [-1.0, 0.25, 4.0]])
    assert int((values.abs() > lambda_leaving(values, free)).sum()) == free


def test_lambda_stays_while_the_number_still_falls():
    """What was cut short is no evidence that λ is too small."""
    search, gradients = LambdaSearch(100), torch.rand(1000)
    assert search.next(0.3, gradients, 800) > 0.3
    assert search.next(0.6, gradients, 600) == 0.6
    assert search.next(0.6, gradients, 580) > 0.6


def test_a_network_that_changes_makes_old_knowledge_void():
    search = LambdaSearch(100)
    assert search.next(0.3, torch.zeros(1000), 150) == 0.6  # 0.3 was too small at that time
    gradients = torch.linspace(0, 0.25, 1000)
    lam = search.next(0.6, gradients, 50)
    assert lam == lambda_leaving(gradients, 100) < 0.3
    assert search.next(lam, gradients, 100) == lam


def test_a_bound_that_has_aged_does_not_hold_lambda():
    search, lam = LambdaSearch(100), 1.0
    lam = search.next(lam, torch.zeros(1000), 200)
    for _ in range(25):
        lam = search.next(lam, torch.full((1000,), 5.0), 50)
    assert lam < 0.5


@settings(max_examples=200)
@given(
    threshold=st.floats(1e-4, 1e4),
    start=st.floats(1e-4, 1e4),
    bias=st.floats(0.1, 3.0),
)
def test_brackets_any_threshold(threshold, start, bias):
    """Fewer weights than 10 of 100 from a λ on, more below it; gradients mislead by a factor."""
    search, lam = LambdaSearch(10, tolerance=1), start
    for _ in range(80):
        nonzero = min(100, int(10 * threshold / lam + 0.5))
        lam = search.next(lam, torch.full((100,), bias * threshold), nonzero)
    assert abs(min(100, int(10 * threshold / lam + 0.5)) - 10) <= 1


def test_within_tolerance_lambda_stays():
    search = LambdaSearch(100, tolerance=2)
    assert search.next(0.3, torch.rand(1000), 102) == 0.3
    assert search.next(0.3, torch.rand(1000), 103) != 0.3
