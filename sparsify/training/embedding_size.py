"""How many numbers the embeddings of a network have."""

from __future__ import annotations

import torch
from torch import nn

from sparsify.errors import SparsifyError
from sparsify.models.registry import errors_of

_FRAMES = 100


def embedding_size(network: nn.Module, name: str, bins: int) -> int:
    """Size of the embedding, found by trying.

    Args:
        network: On the CPU; it is in eval mode afterwards.
        name: What it is called in errors.
        bins: Features of a frame.

    Raises:
        SparsifyError: The network does not map features `(B, T, F)` to embeddings `(B, D)`.
    """
    feats = torch.zeros(2, _FRAMES, bins)
    network.eval()
    with errors_of(name):
        try:
            with torch.inference_mode():
                shape = network(feats).shape
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
            raise SparsifyError(
                f"model '{name}' does not accept features (B, T, {bins}): {error}"
            ) from error
    if len(shape) != 2 or shape[0] != 2:
        raise SparsifyError(
            f"model '{name}' must map features (B, T, F) to embeddings (B, D), but"
            f" {tuple(feats.shape)} gave {tuple(shape)}"
        )
    return int(shape[1])
