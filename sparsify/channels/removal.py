"""Which channels of a network nobody would miss, and the network without them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsify.channels.atoms import ANY, Ids
from sparsify.channels.structure import Joint, Site, Structure
from sparsify.channels.tape import record
from sparsify.channels.values import Abstract, evaluate
from sparsify.channels.walk import structure_of
from sparsify.errors import SparsifyError
from sparsify.models.layers import Sum
from sparsify.models.narrowing import narrow


@dataclass(frozen=True)
class Removal:
    """What can be taken out of a network.

    Attributes:
        kept: For each parameter and axis which indices stay, where not all do.
        widths: What is left, see `sparsify.models.names.Widths`.
        shifts: What is added to biases for channels that were constant, by name.
        stuck: How many channels are dead and stay nevertheless, by what they stay for and by the
            layer that makes them.
    """

    kept: Mapping[tuple[str, int], Ids]
    widths: Mapping[str, Any]
    shifts: Mapping[str, Tensor]
    stuck: Mapping[str, Mapping[str, int]]

    def applied(self, model: nn.Module, name: str) -> nn.Module:
        """A copy of the network without those channels.

        Raises:
            SparsifyError: A tensor of it cannot become smaller.
        """
        smaller = copy.deepcopy(model)
        state = dict(model.state_dict())
        for parameter, shift in self.shifts.items():
            state[parameter] = (state[parameter].double() + shift).to(state[parameter].dtype)
        for (parameter, axis), indices in self.kept.items():
            state[parameter] = state[parameter].index_select(axis, torch.from_numpy(indices))
        for module in smaller.modules():
            if isinstance(module, Sum):
                module.whole()
        narrow(smaller, self.widths, name)
        smaller.load_state_dict(state)
        return smaller


def removal_from(model: nn.Module, bins: int, name: str, before: Mapping[str, Any]) -> Removal:
    """Finds the channels that can go without changing an embedding.

    A channel goes if whoever reads it finds it zero whatever the features are, or constant where
    that can be added to a bias, or multiplies it by weights that are zero.

    Args:
        model: A network, on the CPU.
        bins: Features of a frame.
        name: What it is called in errors.
        before: Its widths, if channels were taken out of it before.

    Raises:
        SparsifyError: It cannot be followed.
    """
    tapes = record(model, bins, name, 2)
    structure = structure_of(tapes[0], model)
    if [call.op for call in tapes[0].calls] != [call.op for call in tapes[1].calls]:
        raise SparsifyError(
            f"the channels of '{name}' cannot be followed: it computes something else for long"
            " utterances than for short ones"
        )
    state = model.state_dict()
    first, second = (evaluate(tape, state | _buffers(model)) for tape in tapes)
    return _Finder(structure, state, first, second, before).found()


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    """All of them, also those that are in no file."""
    return dict(model.named_buffers())


class _Finder:
    def __init__(
        self,
        structure: Structure,
        state: Mapping[str, Tensor],
        values: list[Abstract],
        others: list[Abstract],
        before: Mapping[str, Any],
    ) -> None:
        self.structure, self.state, self.before = structure, state, before
        self.values = values
        self.roots = structure.atoms.roots()
        self.alive = np.zeros(structure.atoms.count, dtype=bool)
        self.reads = [_Read(site, values, others, self.roots) for site in structure.sites]

    def found(self) -> Removal:
        for atom in self.structure.atoms.fixed:
            self.alive[self.roots[atom]] = True
        self._spread()
        self._leave_something()
        kept = {
            key: np.flatnonzero(self._is_alive(ids))
            for key, ids in self.structure.axes.items()
            if not self._is_alive(ids).all()
        }
        return Removal(kept, self._widths(kept), self._shifts(), self._stuck())

    def _stuck(self) -> dict[str, dict[str, int]]:
        """Channels that are zero where something sees them that cannot do without them."""
        stuck: dict[str, dict[str, int]] = {}
        told: list[Ids] = []
        for loss in self.structure.losses:
            support = self.values[loss.input].support.numpy() > 0
            seen, moving = self.roots[loss.ids], self.roots[loss.ids[support]]
            dead = np.setdiff1d(seen[seen >= 0], np.concatenate([moving, *told]))
            dead = dead[self.alive[dead]]
            told.append(dead)
            if len(dead):
                layers = stuck.setdefault(loss.what, {})
                for layer, count in self._makers(dead):
                    layers[layer] = layers.get(layer, 0) + count
        return stuck

    def _makers(self, channels: Ids) -> Iterator[tuple[str, int]]:
        """The layers that make channels, and how many of them."""
        for (name, axis), ids in self.structure.axes.items():
            count = np.isin(self.roots[ids], channels).sum()
            if axis == 0 and count and self.state[name].dim() > 1:
                yield name.rpartition(".")[0] or name, int(count)

    def _is_alive(self, ids: Ids) -> Any:
        roots = self.roots[ids]
        alive = np.append(self.alive, True)  # what is no channel has the number -1
        return alive[roots]

    def _spread(self) -> None:
        """Lets live whatever somebody alive has use for, until nothing more comes to life."""
        before = -1
        while (now := int(self.alive.sum())) != before:
            before = now
            for read in reversed(self.reads):
                read.revive(self.alive)
            for joint in reversed(self.structure.joints):
                self._revive_operands(joint)

    def _revive_operands(self, joint: Joint) -> None:
        makes = self.roots[joint.makes]
        for number, ids in zip(joint.operands, joint.reads, strict=True):
            there = self.roots[ids]
            moving = _per_channel(self.values[number].support, 1).numpy() > 0
            wanted = self.alive[makes] & moving & (there >= 0)
            self.alive[there[wanted]] = True
            also = (there >= 0) & self.alive[there]
            self.alive[makes[also]] = True

    def _leave_something(self) -> None:
        """Keeps a channel of every tensor that would have none."""
        again = True
        while again:
            again = False
            for ids in self.structure.tensors:
                roots = self.roots[ids]
                if len(roots) and (roots >= 0).all() and not self.alive[roots].any():
                    self.alive[roots[0]] = again = True
            self._spread()

    def _widths(self, kept: Mapping[tuple[str, int], Ids]) -> dict[str, Any]:
        widths = dict(self.before)
        for (name, axis), indices in kept.items():
            shape = list(widths.get(name, self.state[name].shape))
            shape[axis] = len(indices)
            widths[name] = shape
        for joint in self.structure.joints:
            made = self._is_alive(joint.makes)
            for operand, ids in zip(("first", "second"), joint.reads, strict=True):
                there = (ids != ANY) & self._is_alive(ids)
                key = f"{joint.path}.{operand}"
                widths.pop(key, None)
                if not there[made].all():
                    widths[key] = "".join("01"[int(each)] for each in there[made])
        return widths

    def _shifts(self) -> dict[str, Tensor]:
        shifts: dict[str, Tensor] = {}
        for read in self.reads:
            bias, shift = read.site.bias, read.shift(self.alive)
            if bias is not None and shift is not None:
                shifts[bias] = shifts.get(bias, 0) + shift
        return shifts


class _Read:
    """A place where channels are read, with what is known of them there."""

    def __init__(
        self, site: Site, values: list[Abstract], others: list[Abstract], roots: Ids
    ) -> None:
        self.site = site
        self.reads, self.makes = roots[site.reads], roots[site.makes]
        self.constant = _constants(values[site.input], site.axis)
        same = torch.isclose(self.constant, _constants(others[site.input], site.axis), rtol=1e-6)
        free = same & ((self.constant == 0) | (site.bias is not None))
        self.wanted = ~free.numpy()
        weight = None if site.weight is None else values[site.weight].value
        if weight is None:
            self.matrix = torch.ones(len(self.makes), len(self.reads))
        else:
            weight = weight.transpose(0, 1) if site.transposed else weight
            self.matrix = weight.double().reshape(*weight.shape[:2], -1)
        multiplies = self.matrix != 0
        self.multiplies = (multiplies.any(2) if multiplies.dim() == 3 else multiplies).numpy()

    def revive(self, alive: Any) -> None:
        """Lets live what is multiplied by a weight of somebody alive."""
        listening = (self.makes < 0) | alive[self.makes]
        heard = self.multiplies[listening].any(0) & self.wanted & (self.reads >= 0)
        alive[self.reads[heard]] = True

    def shift(self, alive: Any) -> Tensor | None:
        """What the channels that go have added, if anything."""
        gone = torch.from_numpy((self.reads >= 0) & ~alive[self.reads] & ~self.wanted)
        lost = torch.where(gone, self.constant, 0.0)
        if not lost.any() or self.matrix.dim() != 3:
            return None
        return torch.einsum("oik,i->o", self.matrix, lost)


def _constants(x: Abstract, axis: int) -> Tensor:
    """The value of each channel, NaN where there are several or it is not known."""
    value = _rows(x.value, axis)
    highest = value.amax(1).double()
    constant = (_per_channel(x.mask, axis) == 0) & (highest == value.amin(1))
    return torch.where(constant, highest, torch.nan)


def _rows(x: Tensor, axis: int) -> Tensor:
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)


def _per_channel(x: Tensor, axis: int) -> Tensor:
    """The largest value of each channel."""
    return _rows(x, axis).amax(1)
