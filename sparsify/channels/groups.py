"""The channels that a training may take from a network: what goes with each, and what is left."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsify.channels.atoms import Ids
from sparsify.channels.scaling import gates_of
from sparsify.channels.tape import record
from sparsify.channels.walk import structure_of
from sparsify.errors import SparsifyError
from sparsify.sparsity.costs import Cost, total_cost, zeros_wanted
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.selection import Selection

Flags = NDArray[np.bool_]


class ChannelGroups:
    """Which channels of a network can be taken out, and which parameters go with them.

    With a channel go the rows of the weights that make it, their biases, its norms, what gates it,
    and the columns of all weights that read it. It belongs to those that can go if weights make it
    that may be pruned, and it is no part of the embedding.

    Args:
        network: Any network.
        bins: Features of a frame.
        selection: What may become sparse.
        costs: What the weights of each prunable parameter count for, by name; nothing where
            missing, and one each where there are none at all.

    Attributes:
        makers: Names of the weights whose rows make channels that can go.
        total: What all prunable weights cost.

    Raises:
        SparsifyError: The network cannot be followed, or none of its channels can go.
    """

    def __init__(
        self, network: nn.Module, bins: int, selection: Selection, costs: Mapping[str, Cost]
    ) -> None:
        model = copy.deepcopy(network).cpu()
        name = type(network).__name__
        try:
            (tape,) = record(model, bins, name)
        except (RuntimeError, ValueError, LookupError) as error:
            raise SparsifyError(f"the channels of '{name}' cannot be followed: {error}") from error
        self._structure = structure_of(tape, model)
        self._roots = self._structure.atoms.roots()
        self._prunable = {n: w.shape for n, w in prunable_parameters(model, *selection).items()}
        self._costs = {each: costs.get(each, 0 if costs else 1) for each in self._prunable}
        self._tensors = dict(network.named_parameters())
        self._joints = [
            (self._roots[j.makes], *(self._roots[each] for each in j.reads))
            for j in self._structure.joints
        ]
        self._rows = {
            name: self._roots[ids]
            for (name, axis), ids in self._structure.axes.items()
            if axis == 0 and name in self._tensors and self._tensors[name].dim() > 1
        }
        protected = self._protected(model)
        gates = gates_of(tape, model, self._structure, self._rows)
        self.makers = tuple(
            each
            for each, rows in self._rows.items()
            if each in self._prunable and each not in gates and not protected[rows].any()
        )
        self.candidates = np.zeros(len(self._roots), dtype=bool)
        for each in self.makers:
            rows = self._rows[each]
            self.candidates[rows[rows >= 0]] = True
        if not self.candidates.any():
            raise SparsifyError(
                f"no channel of '{name}' can be taken out by itself: train without group=output"
            )
        self.total = sum(total_cost([self._tensors[n]], [c]) for n, c in self._costs.items())
        self._layers = self._sets_that_keep_one()

    @property
    def dearest(self) -> int:
        """An upper bound of what goes with a single channel."""
        most = np.zeros(len(self._roots), dtype=np.int64)
        for name, shape in self._prunable.items():
            cost = torch.as_tensor(self._costs[name]).expand(shape)
            for axis in (0, 1):
                ids = self._axis(name, axis)
                if ids is not None:
                    others = [each for each in range(len(shape)) if each != axis]
                    spent = cost.sum(others).numpy() if others else cost.numpy()
                    np.add.at(most, ids[ids >= 0], spent[ids >= 0])
        return int(most[:-2].max(initial=0))

    def dead_now(self) -> Flags:
        """The channels whose makers, biases and norms are zero."""
        vectors = [name for name, tensor in self._tensors.items() if tensor.dim() == 1]
        return self._followed(self._zero([*self.makers, *vectors]))

    def _zero(self, names: Iterable[str]) -> Flags:
        """The channels that can go and of which these parameters have nothing."""
        alive = np.zeros(len(self._roots), dtype=bool)
        for name in names:
            ids = self._axis(name, 0)
            if ids is not None:
                rows = self._tensors[name].detach().reshape(len(ids), -1)
                alive[ids[(rows != 0).any(1).cpu().numpy()]] = True
        return self.candidates & ~alive

    def scores(self, weights: Mapping[str, Tensor]) -> NDArray[np.float64]:
        """Of each channel the norm of what makes it over the root of its size; infinite elsewhere.

        Args:
            weights: Weights, or what stands for them, of all `makers`.
        """
        squares, sizes = np.zeros(len(self._roots)), np.zeros(len(self._roots))
        for name in self.makers:
            rows = weights[name].detach().double().flatten(1)
            ids = self._rows[name]
            np.add.at(squares, ids, rows.square().sum(1).cpu().numpy())
            np.add.at(sizes, ids, rows.shape[1])
        return np.where(self.candidates, np.sqrt(squares / np.maximum(sizes, 1)), np.inf)

    def smallest(self, scores: NDArray[np.float64], sparsity: float) -> Flags:
        """The channels of the lowest scores that make a network as sparse as wanted, just so.

        No layer loses its last channel.

        Args:
            scores: Of all channels.
            sparsity: Share of the cost of all prunable weights that goes with them.

        Raises:
            SparsifyError: So much does not go.
        """
        order = self._order(scores)
        wanted = zeros_wanted(self.total, sparsity)
        low, high = 0, len(order)
        if self._gone(order, high) < wanted:
            most = self._gone(order, high) / self.total
            raise SparsifyError(
                f"whole channels make it {most:.2%} sparse at most, not {sparsity:.2%}: ask for"
                " less, or leave out group=output"
            )
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._gone(order, middle) >= wanted else (middle + 1, high)
        return self._first(order, low)

    def share_of_makers(self, dead: Flags) -> float:
        """The share of the makers' cost that is in rows of channels that are dead."""
        lost = everything = 0
        for name in self.makers:
            cost = torch.as_tensor(self._costs[name]).expand(self._prunable[name]).flatten(1).sum(1)
            lost += int(cost[torch.from_numpy(dead[self._rows[name]])].sum())
            everything += int(cost.sum())
        return lost / everything

    def rows(self, name: str, dead: Flags) -> Flags:
        """Which rows of a maker are of channels that are not dead."""
        return ~dead[self._rows[name]]

    def masks(self, dead: Flags) -> dict[str, Tensor]:
        """For each parameter that has a part in channels, what stays of it."""
        masks = {}
        for name, tensor in self._tensors.items():
            mask = torch.ones(tensor.shape, dtype=torch.bool)
            for axis in range(min(tensor.dim(), 2)):
                gone = np.flatnonzero(~self._stays(name, axis, dead))
                mask.index_fill_(axis, torch.from_numpy(gone), value=False)
            masks[name] = mask.to(tensor.device)
        return masks

    def random_rows(self, share: float, seed: int) -> Flags:
        """Channels by chance in whose rows a share of the makers' weights is, at most."""
        order = self._order(self._chance(seed))
        low, high = 0, len(order)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.share_of_makers(self._first(order, middle)) <= share
            low, high = (middle, high) if fits else (low, middle - 1)
        return self._first(order, low)

    def _chance(self, seed: int) -> NDArray[np.float64]:
        return np.random.default_rng(seed).random(len(self._roots))

    def _order(self, scores: NDArray[np.float64]) -> Ids:
        """The channels that can go, the lowest score first, without the last of any layer."""
        left = [len(each) for each in self._layers]
        of_channel: dict[int, list[int]] = {}
        for number, layer in enumerate(self._layers):
            for channel in layer.tolist():
                of_channel.setdefault(channel, []).append(number)
        order: list[int] = []
        channels = np.flatnonzero(self.candidates)
        for channel in channels[np.argsort(scores[channels], kind="stable")].tolist():
            numbers = of_channel.get(channel, [])
            if all(left[number] > 1 for number in numbers):
                order.append(channel)
                for number in numbers:
                    left[number] -= 1
        return np.array(order, dtype=np.int64)

    def _first(self, order: Ids, count: int) -> Flags:
        dead = np.zeros(len(self._roots), dtype=bool)
        dead[order[:count]] = True
        return self._followed(dead)

    def _followed(self, dead: Flags) -> Flags:
        """Sums are dead, too, where all that is added is."""
        for made, first, second in self._joints:
            both = ((first < 0) | dead[first]) & ((second < 0) | dead[second])
            dead[made[both & (made >= 0)]] = True
        return dead

    def _gone(self, order: Ids, count: int) -> int:
        dead = self._first(order, count)
        return self.total - sum(self._left(name, dead) for name in self._prunable)

    def _left(self, name: str, dead: Flags) -> int:
        """What the weights of a parameter cost that stay."""
        cost, shape = self._costs[name], self._prunable[name]
        kept = [self._stays(name, axis, dead) for axis in (0, 1)]
        if isinstance(cost, int):
            return cost * math.prod([int(each.sum()) for each in kept]) * math.prod(shape[2:])
        rows, columns = (torch.from_numpy(each) for each in kept)
        return int(cost[rows][:, columns].sum())

    def _stays(self, name: str, axis: int, dead: Flags) -> Flags:
        """Which indices of a parameter along an axis belong to no channel that is dead."""
        ids = self._axis(name, axis)
        size = self._tensors[name].shape[axis]
        return np.ones(size, dtype=bool) if ids is None else ~dead[ids]

    def _axis(self, name: str, axis: int) -> Ids | None:
        ids = self._structure.axes.get((name, axis))
        return None if ids is None else self._roots[ids]

    def _protected(self, model: nn.Module) -> Flags:
        """The channels that stay: of the embedding, and those that protected weights make."""
        protected = np.zeros(len(self._roots), dtype=bool)
        for atom in self._structure.atoms.fixed:
            protected[self._roots[atom]] = True
        everything = prunable_parameters(model)
        for name, rows in self._rows.items():
            if name in everything and name not in self._prunable:
                protected[rows[rows >= 0]] = True
        protected[-2:] = True
        return protected

    def _sets_that_keep_one(self) -> list[Ids]:
        """Sets of channels that must not all go."""
        found = {}
        for ids in self._structure.tensors:
            roots = np.unique(self._roots[ids])
            if len(roots) and (roots >= 0).all() and self.candidates[roots].all():
                found[roots.tobytes()] = roots
        return list(found.values())
