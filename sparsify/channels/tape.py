"""One forward pass of a network as a list of PyTorch's core operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from sparsify.errors import SparsifyError

_BATCH = 2  # so that the axis of the batch is none of size 1
FRAMES, OTHER_FRAMES = 32, 45
"""Lengths of utterances to record; what is constant for both is so for all."""


@dataclass(frozen=True)
class Ref:
    """A tensor of a tape, by its number."""

    number: int


@dataclass(frozen=True)
class Call:
    """An operator that was called.

    Attributes:
        op: The operator; one that writes into its argument stands as the one that does not.
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

    @property
    def inputs(self) -> list[int]:
        """Numbers of the tensors that it was given."""
        leaves = tree_leaves((self.args, dict(self.kwargs)), is_leaf=lambda x: isinstance(x, Ref))
        return [each.number for each in leaves if isinstance(each, Ref)]

    def with_tensors(self, tensor: Callable[[int], Tensor]) -> tuple[tuple[Any, ...], Any]:
        """Its arguments, with tensors in place of their numbers."""

        def put(each: Any) -> Any:
            return tensor(each.number) if isinstance(each, Ref) else each

        return tree_map(put, (self.args, dict(self.kwargs)), is_leaf=lambda x: isinstance(x, Ref))


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


def record(model: nn.Module, bins: int, name: str, frames: int = FRAMES) -> Tape:
    """Runs a network once, on the CPU and in eval mode, and notes every operator.

    Args:
        model: Maps features `(B, T, bins)` to embeddings `(B, D)`.
        bins: Features of a frame.
        name: What the network is called in errors.
        frames: Of the utterances.

    Raises:
        SparsifyError: It writes into tensors in a way that cannot be followed, or returns something
            else.
        RuntimeError: It does not take such features; also `ValueError` and `LookupError`.
    """
    training = model.training
    recorder = _Recorder(model, name)
    try:
        feats = torch.zeros(_BATCH, frames, bins)
        with torch.no_grad(), recorder:
            return recorder.run(model.eval(), feats)
    finally:
        recorder.unhook()
        model.train(training)


class _Recorder(TorchDispatchMode):
    """Writes a tape."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.name = name
        self.tape = Tape()
        self._kept: list[Tensor] = []  # what is not freed keeps its id
        self._numbers: dict[int, int] = {}
        self._storages: dict[int, int] = {}
        self._running = [""]
        self._hooks = []
        for each, tensor in (*model.named_parameters(), *model.named_buffers()):
            self.tape.parameters[each] = self._note(tensor)
        for path, module in model.named_modules():
            self._hooks += [
                module.register_forward_pre_hook(lambda *_, path=path: self._running.append(path)),
                module.register_forward_hook(lambda *_: self._ended()),
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
        noted = tree_map(self._ref, (args, dict(kwargs)))
        result = func(*args, **kwargs)
        op = func
        if func._schema.is_mutable:
            op = self._functional(func, args)
            self._forget(args[0])
        made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        outputs = tuple(self._note(each) for each in made)
        self.tape.calls.append(Call(op, noted[0], noted[1], outputs, self._running[-1]))
        return result

    def _functional(self, func: Any, args: Any) -> Any:
        """The operator that makes what another writes into its first argument."""
        packet, overload = str(func).removeprefix("aten.").rsplit(".", 1)
        plain = getattr(torch.ops.aten, packet.removesuffix("_"), None)
        plain = getattr(plain, overload, None)
        shared = self._storages.get(args[0].untyped_storage()._cdata, 0) > 1
        if plain is None or torch.Tag.pointwise not in func.tags or shared:
            where = f"'{self._running[-1]}'" if self._running[-1] else "the network itself"
            raise SparsifyError(
                f"the channels of '{self.name}' cannot be followed: {where} writes into a tensor by"
                f" {func}, give it an operator that makes a new one"
            )
        return plain

    def _ended(self) -> None:
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
        place = tensor.untyped_storage()._cdata
        self._storages[place] = self._storages.get(place, 0) + 1
        return number

    def _forget(self, tensor: Tensor) -> None:
        """What is written into a tensor is a new one, in its place."""
        self._storages[tensor.untyped_storage()._cdata] -= 1
