"""How the learning rate changes over a training."""

from __future__ import annotations

import math
from typing import Any

from sparsify.recipe.sections import TrainingSection


class LearningRate:
    """The learning rate as a share of its peak.

    Linear warm-up; then half a cosine, or steps down wherever the validation error stops falling.
    The exponential decay begins with the training and the warm-up multiplies it (as WeSpeaker's).

    Args:
        section: The shape.
    """

    def __init__(self, section: TrainingSection) -> None:
        self.section = section
        self._reduced = 1.0
        self._lowest = math.inf
        self._waited = 0

    def __call__(self, progress: float) -> float:
        """The share of the peak after a share of training, in [0, 1]."""
        warmup, final = self.section.warmup, self.section.final_lr
        rise = min(progress / warmup, 1.0) if warmup else 1.0
        if self.section.schedule == "exponential":
            return rise * final**progress
        if self.section.schedule == "plateau":
            return rise * max(self._reduced, final)
        if progress < warmup:
            return rise
        share = (progress - warmup) / max(1 - warmup, 1e-12)
        return final + (1 - final) * (1 + math.cos(math.pi * min(share, 1.0))) / 2

    def validated(self, error: float) -> None:
        """Hears of the error of a validation; only the plateau schedule cares."""
        if error < self._lowest:
            self._lowest, self._waited = error, 0
        elif self._waited < self.section.plateau.patience:
            self._waited += 1
        else:
            self._reduced, self._waited = self._reduced * self.section.plateau.factor, 0

    def state_dict(self) -> dict[str, Any]:
        """What the plateau schedule knows of the validations so far."""
        return {"reduced": self._reduced, "lowest": self._lowest, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        self._reduced, self._lowest = state["reduced"], state["lowest"]
        self._waited = state["waited"]
