"""Parameters that several processes hold in parts (`DTensor`, as FSDP2 makes them).

Replicas (DDP) need nothing of this: all ranks see the same gradients and compute the same numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def is_dtensor(tensor: Tensor) -> bool:
    """Whether a tensor is a `DTensor`."""
    # Where nobody has imported the module, which takes half a second, nobody has made one.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Any) -> Tensor:
    """The part that this process holds, sharing memory."""
    return tensor.to_local() if is_dtensor(tensor) else tensor


def local_like(parameter: Any, part: Tensor) -> Tensor:
    """A tensor sharded like a parameter, from the part that this process holds."""
    if not is_dtensor(parameter):
        return part
    return type(parameter.data).from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def whole(tensor: Any) -> Tensor:
    """The same tensor, with sums that are still spread over processes added up."""
    if not is_dtensor(tensor) or not any(p.is_partial() for p in tensor.placements):
        return tensor
    replicate = sys.modules["torch.distributed.tensor"].Replicate()
    return tensor.redistribute(
        placements=[replicate if p.is_partial() else p for p in tensor.placements]
    )


class Shards:
    """The processes that hold parts of the same parameters; one alone without sharding.

    Args:
        tensors: Parameters, all sharded over the same mesh or not at all.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._groups: list[Any] = []
        self.rank, self.count = 0, 1
        sharded: Any = next((t for t in tensors if _is_sharded(t)), None)
        if sharded is None:
            return
        mesh = sharded.device_mesh
        for dim, placement in enumerate(sharded.placements):
            if placement.is_shard():
                self._groups.append(mesh.get_group(dim))
                self.rank = self.rank * mesh.size(dim) + mesh.get_local_rank(dim)
                self.count *= mesh.size(dim)

    def sum(self, counts: Tensor) -> Tensor:
        """Adds up a tensor over the processes, in place."""
        for group in self._groups:
            torch.distributed.all_reduce(counts, group=group)
        return counts

    def counts(self, tensor: Tensor) -> bool:
        """Whether this process counts its entries of a tensor: all do of a part, one of a whole."""
        return _is_sharded(tensor) or self.rank == 0


def _is_sharded(tensor: Any) -> bool:
    return is_dtensor(tensor) and any(p.is_shard() for p in tensor.placements)
