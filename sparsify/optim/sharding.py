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


def is_flattened(parameter: Tensor) -> bool:
    """Whether `FullyShardedDataParallel` (FSDP1) holds a parameter as a piece of a flat vector."""
    return getattr(parameter, "_fsdp_flattened", False)


def local(tensor: Any) -> Tensor:
    """The part that this process holds, sharing memory."""
    return tensor.to_local() if is_dtensor(tensor) else tensor


def local_part(parameter: Any, tensor: Any) -> Tensor:
    """Those entries of a tensor of the same shape whose part of a parameter this process holds."""
    if not is_dtensor(tensor):
        return tensor
    return tensor.redistribute(placements=parameter.placements).to_local()


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


def shard_like(parameter: Any, tensor: Tensor) -> Tensor:
    """A tensor sharded like a parameter, from all of it, which every process holds."""
    if not is_dtensor(parameter) or is_dtensor(tensor):
        return tensor
    return sys.modules["torch.distributed.tensor"].distribute_tensor(
        tensor, parameter.device_mesh, parameter.placements, src_data_rank=None
    )


def reduced_like(parameter: Any, tensor: Any) -> Tensor:
    """What an operation has made of a parameter by reducing dimensions, `keepdim` or all of them.

    Results that are still spread over processes are added up. Afterwards the part that a process
    holds broadcasts to its part of the parameter.
    """
    if not is_dtensor(tensor):
        return tensor
    replicate = sys.modules["torch.distributed.tensor"].Replicate()

    def fits(own: Any, of: Any) -> bool:
        if of.is_replicate() or of.dim >= tensor.dim():
            return False
        size = tensor.shape[of.dim]
        return size == parameter.shape[of.dim] and (size > 1 or own == of)

    pairs = zip(tensor.placements, parameter.placements, strict=True)
    return tensor.redistribute(placements=[of if fits(own, of) else replicate for own, of in pairs])


class Shards:
    """The processes that hold parts of the same parameters; one alone without sharding.

    Args:
        tensors: Parameters, all sharded over the same mesh or not at all.

    Raises:
        ValueError: Parameters are sharded over different meshes.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        sharded: list[Any] = [tensor for tensor in tensors if _sharded_dims(tensor)]
        self._dims = sorted({dim for tensor in sharded for dim in _sharded_dims(tensor)})
        self._mesh = sharded[0].device_mesh if sharded else None
        if any(tensor.device_mesh != self._mesh for tensor in sharded):
            raise ValueError(
                "regularised weights must all be sharded over the same device mesh, as one λ is"
                " found for them together"
            )
        self.rank = self._rank(self._dims)
        self.count = 1
        for dim in self._dims:
            self.count *= sharded[0].device_mesh.size(dim)

    def sum(self, counts: Tensor) -> Tensor:
        """Adds up a tensor over the processes, in place."""
        for dim in self._dims:
            assert self._mesh is not None
            torch.distributed.all_reduce(counts, group=self._mesh.get_group(dim))
        return counts

    def counter(self, tensor: Tensor) -> int:
        """Rank of the process that counts what this one holds of a tensor.

        Of all that hold the same entries it is the first.
        """
        return self._rank(_sharded_dims(tensor))

    def _rank(self, dims: list[int]) -> int:
        """Rank of this process if it were the first along all dimensions of the mesh but some."""
        rank = 0
        for dim in self._dims:
            assert self._mesh is not None
            own = self._mesh.get_local_rank(dim) if dim in dims else 0
            rank = rank * self._mesh.size(dim) + own
        return rank


def _sharded_dims(tensor: Any) -> list[int]:
    """The dimensions of the mesh along which processes hold different parts of a tensor."""
    if not is_dtensor(tensor):
        return []
    # `is_shard()` would miss the strided shards that FSDP2 on top of tensor parallelism makes.
    return [dim for dim, p in enumerate(tensor.placements) if not p.is_replicate()]
