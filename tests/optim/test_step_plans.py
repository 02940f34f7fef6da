"""What a step computes together: no weight moves differently because of the others."""

import pytest
import torch
from torch import nn

from sparsify import L1, AdaBreg, FixedLambda, LinBreg

SHAPES = {
    torch.float32: [(400, 400), (7, 3), (0, 4)],  # the first is more than a batch on a CPU
    torch.bfloat16: [(30, 20), (5,)],
    torch.float64: [(20, 30)],
}


def _weights():
    generator = torch.Generator().manual_seed(0)
    return [
        nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        for dtype, shapes in SHAPES.items()
        for shape in shapes
    ]


def _train(kind, weights):
    group = {"params": weights, "regularizer": L1(), "lambda_scale": 0.7}
    rule = FixedLambda(0.3, every=10**6)
    options = {"momentum": 0.9} if kind is LinBreg else {}
    optimizer = kind([group], lr=0.1, lambda_rule=rule, fused=False, **options)
    for step in range(4):
        for weight in weights:
            weight.grad = weight.detach().sin() + step
        optimizer.step()
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
def test_weights_of_several_types_move_as_if_alone(kind):
    together = _train(kind, _weights())
    for ours, weight in zip(together, _weights(), strict=True):
        (alone,) = _train(kind, [weight])
        assert ours.dtype == alone.dtype
        assert torch.equal(ours, alone)


def test_weights_on_several_devices_move_as_if_alone():
    """One of them on the device `meta`, which has no numbers."""
    here, elsewhere = _weights()[1], nn.Parameter(torch.empty(4, 5, device="meta"))
    (alone,) = _train(AdaBreg, [_weights()[1]])
    ours, other = _train(AdaBreg, [here, elsewhere])
    assert torch.equal(ours, alone)
    assert other.is_meta
