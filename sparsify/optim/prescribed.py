"""Finding the λ of ℓ1 at which a prescribed number of weights is nonzero (arXiv 2408.02801)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.optim.selection import Thresholds, order_statistic, threshold_histogram
from sparsify.sparsity.costs import Cost, total_cost

_RISE = 2.0
_FALL = 10.0
_NARROW = 1.001
_SETTLED = 0.9
_SMALLEST = torch.finfo(torch.float32).tiny


@dataclass
class LambdaSearch:
    """Gives λ for the next of several minimisations of `L(w) + λ‖w‖₁`, each from the last solution.

    At a minimiser `|∂_jL| = λ` where `w_j ≠ 0` and `|∂_jL| ≤ λ` elsewhere. With too few nonzeros
    the next λ is the order statistic of `|∂L|` that leaves exactly the prescribed number of weights
    above it. With too many all their gradients tie at λ and say nothing; then λ is bisected, or
    doubled while nothing bounds it. So the search wants to begin on the sparse side. λ falls at
    most tenfold at once, since the gradients of a network that λ has emptied vanish.

    A minimisation may have been cut short. While the nonzeros, too many, still become much fewer,
    λ stays. What a search knows ages, as the network and, with one λ and one search for each layer,
    the others go on: when the interval has become narrow without success, its older end is
    forgotten, and a λ that once left too many nonzeros also where the order statistic lies below.

    Attributes:
        nonzero: The prescribed number, or what the nonzeros may cost.
        tolerance: By how much it may be missed.
        lower: The last λ with too many nonzeros, unless forgotten.
        upper: The last λ with too few nonzeros, unless forgotten.
        before: How many were nonzero after the last minimisation.
    """

    nonzero: int
    tolerance: int = 0
    lower: float = 0.0
    upper: float = math.inf
    before: int = 0

    def next(self, lam: float, gradients: Tensor, nonzero: int, costs: Cost = 1) -> float:
        """λ for the next minimisation, or the same one where the prescribed number is met.

        Args:
            lam: λ of the last minimisation.
            gradients: `∂L` of all weights at its solution.
            nonzero: How many of them are nonzero there, or what these cost.
            costs: Of the weights.
        """
        falling, self.before = nonzero < _SETTLED * self.before, nonzero
        if abs(nonzero - self.nonzero) <= self.tolerance:
            return lam
        if nonzero > self.nonzero:
            if falling:
                return lam
            self.lower, self.upper = lam, self.upper if self.upper > lam * _NARROW else math.inf
            return math.sqrt(lam * self.upper) if math.isfinite(self.upper) else lam * _RISE
        self.upper = lam
        wanted = max(lambda_leaving(gradients, self.nonzero, costs), lam / _FALL)
        if wanted <= self.lower or self.lower * _NARROW >= lam:
            self.lower = 0.0
        return wanted if wanted < lam else math.sqrt(max(self.lower, lam / _FALL) * lam)


def lambda_leaving(gradients: Tensor, free: int, costs: Cost = 1) -> float:
    """The smallest positive λ that only `free` entries of `|gradients|` exceed, or so much cost."""
    sizes = gradients.detach().abs()
    held = total_cost([sizes], [costs]) - free
    if held <= 0:
        return _SMALLEST
    histogram = threshold_histogram([Thresholds(sizes, costs)], sizes.dtype)
    rank = torch.tensor(held, device=sizes.device)
    return max(float(order_statistic(histogram, rank, sizes.dtype)), _SMALLEST)
