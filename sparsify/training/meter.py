"""Running means that do not wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor


class Meter:
    """Means of loss and accuracy since the last reading, without waiting for the device."""

    def __init__(self, device: torch.device) -> None:
        self._sum = torch.zeros(2, dtype=torch.float64, device=device)
        self._count = 0

    def add(self, loss: Tensor, accuracy: Tensor) -> None:
        """Books a step."""
        self._sum += torch.stack([loss, accuracy]).double()
        self._count += 1

    def read(self) -> tuple[float, float]:
        """The means; starts anew. Waits for the device."""
        loss, accuracy = (self._sum / max(self._count, 1)).tolist()
        self._sum.zero_()
        self._count = 0
        return loss, accuracy
