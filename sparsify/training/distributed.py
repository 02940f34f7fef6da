"""Several processes, on one or many machines, that train one network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from sparsify.errors import FailedElsewhereError, SparsifyError

T = TypeVar("T")

_FAILURES = "sparsify/failures"
_BROKEN = ("closed by peer", "reset by peer", "Broken pipe", "ncclRemoteError")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
        local_rank: Its number on this machine.
        local_count: How many there are on this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def main(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def shared(self, size: int, pieces: int) -> tuple[range, int]:
        """This process's part of a batch.

        Args:
            size: Crops in the batch of all processes.
            pieces: Pieces of equal size that all processes together compute it in; where there are
                more processes, one for each.

        Returns:
            The places of this process, and how many of the pieces they are.

        Raises:
            SparsifyError: The batch does not split that way.
        """
        pieces = max(pieces, self.count)
        if pieces % self.count or size % pieces or size < 2 * pieces:
            raise SparsifyError(
                f"{self.count} processes cannot share training.batch_size {size} in {pieces}"
                " training.micro_batches: these must be a multiple of the number of processes, and"
                " the batch a multiple of them, at least twofold"
            )
        own = size // self.count
        return range(self.rank * own, (self.rank + 1) * own), pieces // self.count

    def parallel(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module, whose gradients become their means over all processes."""
        if self.count == 1:
            return module
        ids = [device] if device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=ids)

    def mean_(self, tensor: Tensor) -> Tensor:
        """Replaces a tensor by its mean over all processes."""
        if self.count > 1:
            dist.all_reduce(tensor)
            tensor /= self.count
        return tensor

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` returns in the main process, in which alone it is called."""
        if self.count == 1:
            return make()
        made: list[Any] = [make() if self.main else None]
        dist.broadcast_object_list(made)
        return made[0]

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def check_same(self, value: object, what: str) -> None:
        """Checks that all processes have the same.

        Raises:
            SparsifyError: They do not.
        """
        values = self.gathered(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise SparsifyError(
                    f"{what} of process {rank} differ from those of process 0 ({other} and"
                    f" {values[0]}): give all processes the same"
                )


def processes() -> Processes:
    """This process among those that have joined; alone if none have."""
    if not (dist.is_available() and dist.is_initialized()):
        return Processes()
    return Processes(
        dist.get_rank(),
        dist.get_world_size(),
        _variable("LOCAL_RANK", 0),
        _variable("LOCAL_WORLD_SIZE", 1),
    )


class Joined:
    """A context in which the processes that torchrun has started belong together.

    A process that torchrun has not started is alone in it. Of several that fail, the first raises
    its error, and those that fail later, often only because the first is gone, raise
    `FailedElsewhereError`. One that has been killed says nothing, but another one does. torchrun
    ends all when one has ended.
    """

    def __init__(self) -> None:
        self._store: Any = None

    def __enter__(self) -> Processes:
        if _variable("WORLD_SIZE", 1) == 1 or "MASTER_ADDR" not in os.environ:
            return Processes()
        self._store, rank, count = next(iter(rendezvous("env://")))
        backend = "gloo"
        if torch.cuda.is_available():
            local_rank = _variable("LOCAL_RANK", 0)
            if local_rank < torch.cuda.device_count():  # else `choose_compute` says so
                torch.cuda.set_device(local_rank)
            backend = "cpu:gloo,cuda:nccl"
        store = dist.PrefixStore("sparsify", self._store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=count)
        return processes()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._store is None:
            return
        if error is None:
            dist.destroy_process_group()
        elif not self._first_to_fail():
            raise FailedElsewhereError("another process has failed") from error
        elif _lost_another(error):
            raise SparsifyError(
                "another process of the training has ended without a word, perhaps killed by the"
                " system for want of memory: continue with --resume"
            ) from error

    def _first_to_fail(self) -> bool:
        try:
            return bool(self._store.add(_FAILURES, 1) == 1)
        except RuntimeError:  # the store is gone, with the process that held it
            return False


def _lost_another(error: BaseException) -> bool:
    """Whether an error says that a connection to another process broke, in words alone."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _BROKEN)


def _variable(name: str, default: int) -> int:
    """An environment variable that torchrun sets."""
    return int(os.environ.get(name, str(default)))
