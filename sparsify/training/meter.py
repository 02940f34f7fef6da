"""Running means that do not wait for the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsify.training.distributed import Processes


class Meter:
    """Means of what the steps since the last reading gave, without waiting for the device."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Books 0-dim tensors by name, the same names every time."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach().double()
        self._count += 1

    def read(self) -> dict[str, float]:
        """The means over all processes; starts anew. Waits for the device."""
        names = list(self._sums)
        sums = torch.stack([self._sums[name] for name in names])
        means = self._processes.mean_(sums / self._count).tolist()
        self._sums, self._count = {}, 0
        return dict(zip(names, means, strict=True))
