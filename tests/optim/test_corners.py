"""Landing where there is next to nothing: zeros, ties, half precision, empty tensors and groups."""

import pytest
import torch
from torch import nn

from sparsify import (
    L1,
    AdaBreg,
    AdaptiveLambda,
    FixedLambda,
    GroupL1L2,
    LinBreg,
    QuantileLambda,
)

WEIGHTS = {
    "zeros": lambda: torch.zeros(20, 10),
    "ties": lambda: torch.full((20, 10), 0.5) * torch.tensor([1.0, -1.0]).repeat(5),
    "some zeros": lambda: torch.arange(-100.0, 100.0).view(20, 10).clamp(min=0) / 100,
    "tiny": lambda: torch.linspace(-1e-7, 1e-7, 200).view(20, 10),
}


@pytest.mark.parametrize(
    ("kind", "change"),
    [(AdaBreg, "keep_dual"), (LinBreg, "keep_weights"), (LinBreg, "rescale")],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_landing_is_exact_and_finite(kind, change, dtype, weights):
    for sparsity in (0.0, 0.3, 1.0):
        for gradient in (None, 0.0, 0.25):
            weight = nn.Parameter(WEIGHTS[weights]().to(dtype))
            groups = [
                {"params": []},
                {"params": [weight, nn.Parameter(torch.empty(0, 4))], "regularizer": L1()},
                {"params": [], "regularizer": L1()},
            ]
            rule = FixedLambda(0.1, every=1)
            optimizer = kind(groups, lr=0.01, lambda_rule=rule, lambda_change=change)
            weight.grad = None if gradient is None else torch.full_like(weight, gradient)
            optimizer.step()
            optimizer.land(sparsity)
            zero = weight == 0
            assert int(zero.sum()) == round(sparsity * 200)
            assert optimizer.sparsity == pytest.approx(sparsity)
            for _ in range(3):
                optimizer.step()
            assert torch.equal(weight == 0, zero)
            assert weight.isfinite().all()
            assert not torch.signbit(weight[zero]).any()


@pytest.mark.parametrize(("kind", "rule"), [(LinBreg, QuantileLambda), (AdaBreg, AdaptiveLambda)])
@pytest.mark.parametrize("ramp", [0, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rules_steer_through_ties_and_zeros(kind, rule, ramp, dtype):
    for weights in WEIGHTS.values():
        for gradient in (0.0, 0.25):
            weight = nn.Parameter(weights().to(dtype))
            group = {"params": [weight, nn.Parameter(torch.empty(0, 4))], "regularizer": L1()}
            optimizer = kind([group], lr=0.01, lambda_rule=rule(0.5, every=1, ramp=ramp))
            for _ in range(6):
                weight.grad = torch.full_like(weight, gradient)
                optimizer.step()
                assert optimizer.lam < 2
            optimizer.land(0.5)
            assert int((weight == 0).sum()) == 100
            assert weight.isfinite().all()


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("group", ["kernel", "input", "output"])
def test_landing_of_groups_is_exact_where_all_are_equal(group, sparsity):
    for value in (0.0, 0.5):
        weight = nn.Parameter(torch.full((4, 4, 3), value))
        empty = [nn.Parameter(torch.empty(shape)) for shape in ((0, 4, 3), (4, 0, 3), (4, 4, 0))]
        params = {"params": [weight, *empty], "regularizer": GroupL1L2(group)}
        optimizer = LinBreg([params], lr=0.1, lambda_rule=FixedLambda(0.1))
        optimizer.land(sparsity)
        assert int((weight == 0).sum()) == round(sparsity * 48)
        assert weight.isfinite().all()


def test_landing_again_grows_back_to_the_new_target():
    weight = nn.Parameter(torch.linspace(-1, 1, 200))
    optimizer = AdaBreg([{"params": [weight], "regularizer": L1()}], lambda_rule=FixedLambda(0.1))
    for sparsity in (0.9, 0.5, 0.0, 1.0):
        optimizer.land(sparsity)
        assert int((weight == 0).sum()) == round(200 * sparsity)


def test_rescaled_weights_keep_their_scale_when_they_land():
    """Whatever λ the sparsity asks for: dividing by a small one would blow up the weights."""
    weight = nn.Parameter(torch.linspace(-1, 1, 201))
    group = {"params": [weight], "regularizer": L1()}
    optimizer = LinBreg([group], lambda_rule=FixedLambda(0.5), lambda_change="rescale")
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    optimizer.land(0.0)
    assert optimizer.lam == 0.5
    assert weight.abs().max() < 2.5
