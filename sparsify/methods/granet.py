"""GraNet: gradual magnitude pruning after which some of what is left gives way to others."""

from __future__ import annotations

import math
from typing import Literal

from sparsify.methods.magnitude import GMP, GMPOptions
from sparsify.recipe.validation import Fraction


class GraNetOptions(GMPOptions):
    """Those of gradual magnitude pruning, and how much is regenerated.

    Attributes:
        group: Single weights are regenerated, and no channels.
        regenerated: Share of a layer's weights that give way to others after the first pruning; it
            falls to 0 on a cosine until the last.
    """

    group: Literal["weight"] = "weight"
    regenerated: Fraction = 0.5


class GraNet(GMP):
    """Gradual pruning with zero-cost neuroregeneration (Liu et al. 2021, arXiv 2106.10404).

    After every pruning the smallest of what is left of a layer is dropped, too, and as many weights
    grow from zero where the dense gradient of the batch is largest; these may be the same. It
    starts dense, which the paper calls dense-to-sparse training.
    """

    Options = GraNetOptions
    options: GraNetOptions

    def _grows(self, step: int) -> bool:
        return self._prunes(step) and self.fate_of_zeros != "held"

    def _update(self) -> None:
        super()._update()
        if self._grows(self.steps_done):
            schedule = self.schedule
            way = (self.steps_done - schedule.begin) / (schedule.end - schedule.begin)
            self._exchange(self.options.regenerated / 2 * (1 + math.cos(math.pi * way)))
