"""Precise statistics of batch norm."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from sparsify.training.distributed import Processes


def estimate_batch_norm(
    network: nn.Module, batches: Iterable[Tensor], processes: Processes
) -> None:
    """Averages the statistics of batch norm anew over batches of features, in float32.

    The running averages of training are those of bfloat16 activations, with older weights. Few
    weights and a bias make channels whose mean is a hundred times their deviation. Rounding
    shifts such a mean by a good part of a deviation, and a network that computes in float32, as
    the delivered one does, can lose all its accuracy by that (docs/optimizer-measurements.md). The
    cure is known as precise batch norm (Wu & Johnson 2021, arXiv 2105.07576).

    Args:
        network: Put into train mode while it sees the batches.
        batches: This process's, `(B, T, F)` each, at least one and equally many in every process.
        processes: Over whose batches the statistics are averaged.
    """
    update_bn(batches, network)
    average_batch_norm(network, processes)


def average_batch_norm(network: nn.Module, processes: Processes) -> None:
    """Makes the statistics of batch norm of all processes the same, their mean."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            for statistics in (module.running_mean, module.running_var):
                if statistics is not None:
                    processes.mean_(statistics)
