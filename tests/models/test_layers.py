"""Closed forms of the pooling layers."""

import torch

from sparsify.models.layers import AttentiveStatisticsPooling, StatisticsPooling


def test_without_context_is_with_context_of_weight_zero():
    full, plain = (AttentiveStatisticsPooling(6, 4, context=c).double() for c in (True, False))
    with torch.no_grad():
        full.linear1.weight[:, 6:] = 0
        plain.linear1.weight.copy_(full.linear1.weight[:, :6])
        plain.linear1.bias.copy_(full.linear1.bias)
        plain.linear2.load_state_dict(full.linear2.state_dict())
    x = torch.randn(2, 6, 30, dtype=torch.float64)
    torch.testing.assert_close(full(x), plain(x))


def test_attention_without_weights_is_statistics():
    """Equal attention gives the mean and the biased deviation."""
    pool = AttentiveStatisticsPooling(5, 4)
    torch.nn.init.zeros_(pool.linear2.weight)
    x = torch.randn(3, 5, 40)
    mean, deviation = pool(x).chunk(2, dim=1)
    torch.testing.assert_close(mean, x.mean(dim=2))
    torch.testing.assert_close(deviation, x.std(dim=2, correction=0), atol=1e-5, rtol=1e-4)


def test_statistics_are_those_of_torch():
    x = torch.randn(3, 5, 40)
    expected = torch.cat([x.mean(dim=2), x.std(dim=2)], dim=1)
    torch.testing.assert_close(StatisticsPooling()(x), expected, atol=1e-6, rtol=1e-5)
