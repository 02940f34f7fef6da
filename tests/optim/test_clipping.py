"""Clipping as in torch, of all that an optimizer trains, without what it holds at zero."""

import copy
import math

import pytest
import torch
from torch import nn

from sparsify import AdaBreg, LinBreg, ProxSGD, QuantileLambda, clip_grad_norm_, parameter_groups


def _gradients(model):
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("kind", [AdaBreg, ProxSGD, torch.optim.AdamW])
@pytest.mark.parametrize(
    ("keywords", "foreach", "max_norm"),
    [({}, None, 1e-3), ({}, False, 1e3), ({"norm_type": math.inf}, None, 1e-3)],
)
def test_clips_as_torch_does(kind, keywords, foreach, max_norm, network, loss_of):
    model, twin = network(), network()
    for each in (model, twin):
        loss_of(each, 0).backward()
    groups = parameter_groups(model) if kind is not torch.optim.AdamW else model.parameters()
    norm = clip_grad_norm_(kind(groups, lr=0.1), max_norm, foreach=foreach, **keywords)
    expected = nn.utils.clip_grad_norm_(twin.parameters(), max_norm, foreach=foreach, **keywords)
    torch.testing.assert_close(norm, expected)
    for own, other in zip(_gradients(model), _gradients(twin), strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("kind", [AdaBreg, LinBreg])
def test_huge_gradients_of_held_zeros_do_not_count(kind, network, loss_of, train, equal):
    model = network()
    optimizer = kind(parameter_groups(model), lr=0.01, lambda_rule=QuantileLambda(0.5))
    train(model, optimizer, 3)
    optimizer.land(0.5)
    ends = []
    for huge in (0.0, 1e9):
        copied, stepping = copy.deepcopy((model, optimizer))
        stepping.zero_grad()
        loss_of(copied, 5).backward()
        for parameter in copied.parameters():
            if parameter.dim() > 1:
                parameter.grad[parameter == 0] = huge
        norm = clip_grad_norm_(stepping, 0.1)
        stepping.step()
        ends.append((copied, norm))
    assert ends[0][1] == ends[1][1]
    assert equal(ends[0][0], ends[1][0])


def test_a_norm_that_is_not_finite_is_an_error_where_asked(network):
    model = network()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    optimizer = AdaBreg(parameter_groups(model))
    with pytest.raises(RuntimeError, match="non-finite"):
        clip_grad_norm_(optimizer, 1.0, error_if_nonfinite=True)
    assert not clip_grad_norm_(optimizer, 1.0).isfinite()
