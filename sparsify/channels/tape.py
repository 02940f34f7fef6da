"""One forward pass of a network as a list of PyTorch's core operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from sparsify.channels.operators import FREE, PADS, SIZED, Opaque
from sparsify.errors import SparsifyError
from sparsify.sparsity.eager import EagerMode
from sparsify.sparsity.uses import storage_of

_BATCH = 2  # so that the axis of the batch is none of size 1
_LENGTHS = ((32, 44), (128, 140), (512, 524))
"""Lengths of utterances to record, the longer ones for networks that need so much. What is constant
for both of a pair is so for all; networks that pad do it to multiples of 4."""


@dataclass(frozen=True)
class Ref:
    """A tensor of a tape, by its number."""

    number: int


@dataclass(frozen=True)
class Call:
    """An operator that was called.

    Attributes:
        op: The operator; one that writes into its argument stands as the one that does not, where
            that is the same, and else as an `Opaque` one, as do layers that are `SIZED`.
        args: Its arguments, tensors as `Ref`.
        kwargs: Also by name.
        outputs: Numbers of the tensors that it made.
        module: Name of the innermost module that was running.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[int, ...]
    module: str

    @cached_property
    def inputs(self) -> list[int]:
        """Numbers of the tensors that it was given."""
        leaves = tree_leaves((self.args, dict(self.kwargs)), is_leaf=lambda x: isinstance(x, Ref))
        return [each.number for each in leaves if isinstance(each, Ref)]

    def with_tensors(self, tensor: Callable[[int], Tensor]) -> tuple[tuple[Any, ...], Any]:
        """Its arguments, with tensors in place of their numbers."""

        def put(each: Any) -> Any:
            return tensor(each.number) if isinstance(each, Ref) else each

        return tree_map(put, (self.args, dict(self.kwargs)), is_leaf=lambda x: isinstance(x, Ref))

    def moved(self, tensor: Callable[[int], Tensor], fill: float = 0.0) -> list[Tensor]:
        """What an operator that only puts elements elsewhere makes of other tensors.

        Args:
            tensor: What stands in place of each, by number.
            fill: An element that is added.
        """
        args, kwargs = self.with_tensors(tensor)
        if self.op in PADS:
            args = (*args[:2], fill)
        return tensors_in(self.op(*args, **kwargs))


@dataclass
class Tape:
    """A recorded forward pass.

    Attributes:
        calls: The operators, in their order.
        parameters: Numbers of parameters and buffers, by their first name.
        constants: Other tensors that no operator has made, by number.
        feats: Number of the features `(B, T, bins)`.
        output: Number of the embeddings.
        shapes: Of all tensors.
    """

    calls: list[Call] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    constants: dict[int, Tensor] = field(default_factory=dict)
    feats: int = -1
    output: int = -1
    shapes: list[tuple[int, ...]] = field(default_factory=list)


def record(model: nn.Module, bins: int, name: str, count: int = 1) -> list[Tape]:
    """Runs a network on the CPU and in eval mode, and notes every operator.

    Args:
        model: Maps features `(B, T, bins)` to embeddings `(B, D)`.
        bins: Features of a frame.
        name: What the network is called in errors.
        count: How many tapes are made, 1 or 2, of utterances of different lengths.

    Raises:
        SparsifyError: It returns something else.
        RuntimeError: It does not take such features; also `ValueError` and `LookupError`.
    """
    *lengths, last = _LENGTHS
    for tried in lengths:
        with suppress(RuntimeError, ValueError, LookupError):  # it may need longer utterances
            return [_recorded(model, bins, name, frames) for frames in tried[:count]]
    return [_recorded(model, bins, name, frames) for frames in last[:count]]


def _recorded(model: nn.Module, bins: int, name: str, frames: int) -> Tape:
    training = model.training
    recorder = _Recorder(model, name)
    try:
        feats = torch.zeros(_BATCH, frames, bins)
        with torch.no_grad(), recorder:
            return recorder.run(model.eval(), feats)
    finally:
        recorder.unhook()
        model.train(training)


class _Recorder(EagerMode):
    """Writes a tape."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.name = name
        self.tape = Tape()
        self._kept: list[Tensor] = []  # what is not freed keeps its id
        self._numbers: dict[int, int] = {}
        self._views: dict[int, dict[int, Tensor]] = {}  # by their storage, each once
        self._running = [""]
        self._within: nn.Module | None = None  # a layer that is not looked into
        self._hooks = []
        for each, tensor in (*model.named_parameters(), *model.named_buffers()):
            self.tape.parameters[each] = self._note(tensor)
        for path, module in model.named_modules():
            self._hooks += [
                module.register_forward_pre_hook(partial(self._begun, path)),
                module.register_forward_hook(self._ended, with_kwargs=True),
            ]

    def unhook(self) -> None:
        """Leaves the network as it was."""
        for hook in self._hooks:
            hook.remove()

    def run(self, model: nn.Module, feats: Tensor) -> Tape:
        self.tape.feats = self._note(feats)
        output = model(feats)
        if not isinstance(output, Tensor):
            raise SparsifyError(f"'{self.name}' returns no tensor but a {type(output).__name__}")
        self.tape.output = self._number(output)
        return self.tape

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self._within is not None:
            return func(*args, **kwargs)
        op = self._functional(func, args) if func._schema.is_mutable else FREE.get(func, func)
        if op is None:
            return self._written(func, args, kwargs)
        noted = tree_map(self._ref, (args, dict(kwargs)))
        result = func(*args, **kwargs)
        outputs = tuple(self._note(each) for each in tensors_in(result))
        self.tape.calls.append(Call(op, noted[0], noted[1], outputs, self._running[-1]))
        return result

    def _functional(self, func: Any, args: Any) -> Any:
        """The operator that makes what another writes into its first argument, if there is one."""
        packet, overload = str(func).removeprefix("aten.").rsplit(".", 1)
        if not packet.endswith("_") or torch.Tag.pointwise not in func.tags:
            return None
        if len(self._views.get(storage_of(args[0]), ())) > 1:
            return None
        return getattr(getattr(torch.ops.aten, packet[:-1], None), overload, None)

    def _written(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Whatever lies where something is written is another tensor from then on."""
        arguments = func._schema.arguments
        by_name = dict(zip((each.name for each in arguments), args, strict=False)) | dict(kwargs)
        writes = (each.name for each in arguments if each.alias_info and each.alias_info.is_write)
        places = {
            storage_of(each): None for name in writes for each in tensors_in(by_name.get(name))
        }
        changed = [view for place in places for view in self._views.get(place, {}).values()]
        before = tuple(self._ref(each) for each in (*tensors_in(by_name), *changed))
        result = func(*args, **kwargs)
        name = str(func.overloadpacket).removeprefix("aten.")
        self._opaque(name, before, [*changed, *tensors_in(result)])
        return result

    def _opaque(self, name: str, given: tuple[Any, ...], made: Sequence[Tensor]) -> None:
        made = list({id(each): each for each in made}.values())
        outputs = tuple(self._note(each) for each in made)
        op = Opaque(name, tuple(each.dtype for each in made))
        self.tape.calls.append(Call(op, given, {}, outputs, self._running[-1]))

    def _begun(self, path: str, module: nn.Module, args: Any) -> None:
        self._running.append(path)
        if self._within is None and isinstance(module, SIZED):
            self._within = module

    def _ended(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self._within is module:
            self._within = None
            given = tuple(self._ref(each) for each in tensors_in((args, kwargs)))
            self._opaque(type(module).__name__, given, tensors_in(output))
        self._running.pop()

    def _ref(self, item: Any) -> Any:
        return Ref(self._number(item)) if isinstance(item, Tensor) else item

    def _number(self, tensor: Tensor) -> int:
        if id(tensor) not in self._numbers:
            self.tape.constants[self._note(tensor)] = tensor
        return self._numbers[id(tensor)]

    def _note(self, tensor: Tensor) -> int:
        number = len(self.tape.shapes)
        self.tape.shapes.append(tuple(tensor.shape))
        self._kept.append(tensor)
        self._numbers[id(tensor)] = number
        self._views.setdefault(storage_of(tensor), {})[id(tensor)] = tensor
        return number


def tensors_in(values: Any) -> list[Tensor]:
    """The tensors among arguments or results."""
    return [each for each in tree_leaves(values) if isinstance(each, Tensor)]
