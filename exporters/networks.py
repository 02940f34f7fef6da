"""Networks as callables on numpy arrays, whichever engine is behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sparsify.audio.features import Filterbank
from sparsify.errors import refused
from sparsify.models.registry import Architecture, errors_of
from sparsify.recipe.sections import FrontEnd

Network: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From a batch of features `(B, T, bins)` to embeddings `(B, D)`, both float32.

Of files with a front end of their own, from samples `(B, samples)`.
"""

PYTORCH = "pytorch"
"""The engine of formats that have none of their own."""


def torch_network(model: nn.Module, threads: int | None = None) -> Network:
    """A network in PyTorch, on the CPU.

    Args:
        model: Maps features to embeddings; put into eval mode.
        threads: Threads per call; PyTorch's setting by default.

    Raises:
        SparsifyError: In a call, the model does not take such features.
    """
    model.eval()
    architecture = getattr(model, "architecture", None)
    name = architecture.name if isinstance(architecture, Architecture) else type(model).__name__

    def embed(feats: NDArray[np.float32]) -> NDArray[np.float32]:
        with errors_of(name), torch.inference_mode(), _torch_threads(threads):
            try:
                return model(torch.from_numpy(feats)).numpy()
            except RuntimeError as error:
                raise refused(name, feats.shape, error) from error

    return embed


def from_samples(network: Network, front_end: FrontEnd) -> Network:
    """A network of samples `(B, samples)` in [-1, 1], whose features PyTorch computes.

    Args:
        network: Of features.
        front_end: Which ones.
    """
    filterbank = Filterbank(front_end)

    def embed(waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(filterbank(torch.from_numpy(waveforms)).numpy())

    return embed


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
