"""A target in multiply-adds: what it asks of the weights, and how much is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from torch import nn

from sparsify.audio.frames import frame_count
from sparsify.errors import SparsifyError
from sparsify.models.multiply_adds import weight_uses
from sparsify.models.registry import Architecture, errors_of
from sparsify.recipe.recipe import Recipe
from sparsify.sparsity.costs import Cost, beside, compact, kept_cost, total_cost
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.selection import Selection
from sparsify.sparsity.work import SPEECH_SECONDS


@dataclass(frozen=True)
class MultiplyAdds:
    """The multiply-adds of a network for two seconds of speech, as `inspect` counts them.

    Attributes:
        costs: Those of every weight, by the name of the parameter; none where it does not multiply.
        total: Those of the dense network.
    """

    costs: Mapping[str, Cost]
    total: int

    def left(self, network: nn.Module) -> float:
        """The share that is left in the network now: whose weights are not zero."""
        parameters = dict(network.named_parameters())
        return sum(self._kept(name, parameters[name]) for name in self.costs) / self.total

    def sparsity_for(self, share: float, network: nn.Module, selection: Selection) -> float:
        """The share of the prunable weights' multiply-adds that must go for a share to be left.

        No more is left than that, however the numbers round.

        Args:
            share: Of the dense network's multiply-adds.
            network: The network.
            selection: What may become sparse.

        Raises:
            SparsifyError: The weights that are never pruned take more than the share.
        """
        names = prunable_parameters(network, *selection)
        own = sum(total_cost([names[name]], [self.costs.get(name, 0)]) for name in names)
        free = int(Fraction(str(share)) * self.total) - (self.total - own)
        if free < 1:
            raise SparsifyError(
                f"target_macs {share:g} is less than what the weights take that are never pruned,"
                f" {(self.total - own) / self.total:.4f} of the multiply-adds: raise it, or protect"
                " fewer (model.ignore)"
            )
        return (own - free) / own

    def _kept(self, name: str, parameter: nn.Parameter) -> int:
        return kept_cost(parameter.detach() != 0, beside(self.costs[name], parameter))


def multiply_adds_of(recipe: Recipe, network: nn.Module) -> MultiplyAdds:
    """Counts those of a recipe's network, on the CPU.

    Raises:
        SparsifyError: They cannot be counted.
    """
    known = getattr(network, "architecture", None)
    frames = frame_count(recipe.front_end, SPEECH_SECONDS)
    name = recipe.model.name
    try:
        with errors_of(name):
            uses = weight_uses(
                known if isinstance(known, Architecture) else None,
                lambda: network,
                frames,
                recipe.front_end.num_mel_bins,
            )
    except (SparsifyError, RuntimeError, ValueError, LookupError) as error:
        raise SparsifyError(
            f"target_macs: the multiply-adds of '{name}' cannot be counted ({error}): give"
            " target_sparsity"
        ) from error
    total = sum(int(counts.sum()) for counts in uses.values())
    return MultiplyAdds({each: compact(counts) for each, counts in uses.items()}, total)
