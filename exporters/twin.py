"""The dense twin: what the same network weighs, and how fast it is, without its zeros."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.artifact.artifact import Artifact, weights_table

_FALLBACK_SCALE = 0.01
_VARIANCE = ".running_var"


def dense_weights(artifact: Artifact) -> dict[str, Tensor]:
    """The prunable weights by name, random values of their tensor's scale in place of zeros.

    And the variances of norms, with a one in place of each zero: of a channel that was dead. Its
    values would be divided by almost nothing, layer by layer, until they are no numbers.
    """
    generator = torch.Generator().manual_seed(0)
    weights = {
        layer.name: without_zeros(artifact.state[layer.name], generator)
        for layer in weights_table(artifact).prunable
    }
    variances = {
        name: torch.where(tensor == 0, 1.0, tensor)
        for name, tensor in artifact.state.items()
        if name.endswith(_VARIANCE)
    }
    return weights | variances


def dense_model(artifact: Artifact) -> Artifact:
    """The same network without zeros."""
    return artifact.with_state(artifact.state | dense_weights(artifact))


def without_zeros(weight: Tensor, generator: torch.Generator) -> Tensor:
    """A weight with random values of its scale in place of zeros."""
    nonzeros = weight[weight != 0]
    scale = nonzeros.square().mean().sqrt() if len(nonzeros) else _FALLBACK_SCALE
    noise = scale * torch.randn(weight.shape, generator=generator)
    return torch.where(weight == 0, noise.to(weight.dtype), weight)
