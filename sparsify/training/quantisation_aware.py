"""Training for int8: the network computes with rounded numbers, gradients go straight through."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd

from sparsify.models.layers import whole_weights
from sparsify.sparsity.prunable import prunable_parameters

_WEIGHTS = (-127, 127)
_ACTIVATIONS = (0, 255)
_SMALLEST = 1e-12  # of a scale


class QuantisationAware(nn.Module):
    """A network whose layers see what int8 graphs see (arXiv 1712.05877).

    Weights have signed levels with a scale for each output channel, so that zeros stay zeros.
    Inputs of layers have unsigned levels over their range in the batch. Nothing of that is kept:
    the network stays as it is, and a step moves its float weights along the gradient at the rounded
    ones (arXiv 1308.3432).

    Args:
        network: Maps features to embeddings; shares its parameters.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = whole_weights(network)

    def forward(self, feats: Tensor) -> Tensor:
        """Embeddings of features, about as the network gives them in int8."""
        weights = {
            name: rounded_weight(weight)
            for name, weight in prunable_parameters(self.network).items()
        }
        with ExitStack() as hooks:
            for module in self.network.modules():
                if isinstance(module, (_ConvNd, nn.Linear)):
                    hooks.callback(module.register_forward_pre_hook(_round_input).remove)
            return functional_call(self.network, weights, (feats,))


def rounded_weight(weight: Tensor) -> Tensor:
    """The levels of a weight, `(C, ...)`, times their scales; gradients go straight through."""
    channels = weight.detach().flatten(1)
    scales = (channels.abs().amax(dim=1) / _WEIGHTS[1]).clamp(min=_SMALLEST).float()
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, *_WEIGHTS)


def rounded_activation(x: Tensor) -> Tensor:
    """The levels of what a layer takes, over its range with zero in it."""
    values = x.float()
    low, high = values.detach().aminmax()
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / _ACTIVATIONS[1]).clamp(min=_SMALLEST)
    zero = (-low / scale).round().to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, *_ACTIVATIONS).to(x.dtype)


def _round_input(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    first, *others = inputs
    return (rounded_activation(first), *others)
