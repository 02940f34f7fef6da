"""A network as a graph of PyTorch's core operators, for any number of frames."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from sparsify.errors import SparsifyError
from sparsify.exporters.networks import first_line

# So long that no length in the network is 1, which the tracer would take for a constant.
_EXAMPLE_FRAMES = 1024
_LEAST_FRAMES = 256
_COMPARED_FRAMES = (1, 2, 3, 10, 30, 100)
_TOLERANCE = 1e-3
_ASSERTION = torch.ops.aten._assert_scalar.default
# What has an operator in the engine, and would be taken to pieces that have none.
_KEPT = (
    torch.ops.aten.reflection_pad1d.default,
    torch.ops.aten.replication_pad1d.default,
    torch.ops.aten.leaky_relu.default,
    torch.ops.aten.hardtanh.default,
)


@dataclass(frozen=True)
class Trace:
    """A traced network.

    Attributes:
        graph: Its operators; one input is the features `(1, T, bins)`.
        constants: Weights and other tensors, by the names of their placeholders.
        feats: The placeholder of the features.
        output: What the network returns.
        differs: Frames of which the operators compute something else than the network does, if
            such a number was found.
    """

    graph: fx.Graph
    constants: dict[str, Tensor]
    feats: fx.Node
    output: fx.Node
    differs: int | None = None


def trace(model: nn.Module, bins: int, name: str) -> Trace:
    """Traces a network for one utterance of any length.

    Args:
        model: Maps features `(B, T, bins)` to embeddings `(B, D)`; put into eval mode.
        bins: Features of a frame.
        name: What the network is called in errors.

    Raises:
        SparsifyError: It cannot be traced, or returns something else.
    """
    model.eval()
    for path, module in model.named_modules():
        if isinstance(module, nn.RNNBase):  # the tracer would write out every frame, for a minute
            raise SparsifyError(
                f"the native engine cannot run '{name}': operator '{type(module).__name__}' of"
                f" '{path}' is none of those that it has; export --format onnx instead"
            )
    frames = torch.export.Dim("T", min=_LEAST_FRAMES)
    table = torch.export.default_decompositions()
    for kept in _KEPT:
        table.pop(kept, None)
    watch = _Watch(model)
    try:
        with _quiet(), watch:
            exported = torch.export.export(
                model,
                (torch.zeros(1, _EXAMPLE_FRAMES, bins),),
                dynamic_shapes=({1: frames},),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            program = exported.run_decompositions(table)
    except Exception as error:
        raise SparsifyError(
            f"the native engine cannot run '{name}': {watch.found()} cannot be traced for any"
            f" number of frames ({first_line(error)}); export --format onnx instead"
        ) from error
    signature = program.graph_signature
    written = [*signature.buffers_to_mutate.values()]
    if written:
        raise SparsifyError(
            f"the native engine cannot run '{name}': it writes into its buffer '{written[0]}'"
        )
    constants: dict[str, Tensor] = {}
    for placeholder, target in {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }.items():
        stored = program.state_dict.get(target, program.constants.get(target))
        assert isinstance(stored, Tensor)
        constants[placeholder] = stored.detach()
    inputs = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    made = {node.name: node for node in program.graph.nodes}
    returned = [made.get(str(each)) for each in signature.user_outputs]
    if len(signature.user_inputs) != 1 or len(returned) != 1 or returned[0] is None:
        raise SparsifyError(f"'{name}' must map one tensor to one tensor")
    return Trace(
        program.graph,
        constants,
        inputs[str(signature.user_inputs[0])],
        returned[0],
        _differs(model, program, constants, bins),
    )


class _Watch:
    """Notes the module with which tracing fails: the innermost that raises an error or makes the
    number of frames a constant.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.running: list[str] = []
        self.binding: str | None = None
        self.handles: list[RemovableHandle] = []

    def __enter__(self) -> None:
        for name, module in self.model.named_modules():
            self.handles += [
                module.register_forward_pre_hook(partial(self._begins, name)),
                module.register_forward_hook(partial(self._ends, name)),
            ]

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def found(self) -> str:
        """The module, in words."""
        path = self.binding if self.binding is not None else (self.running or [""])[-1]
        kind = type(self.model.get_submodule(path)).__name__
        return f"operator '{kind}' of '{path}'" if path else f"the network itself ('{kind}')"

    def _begins(self, name: str, *_: object) -> None:
        self.running.append(name)

    def _ends(self, name: str, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self.running.pop()
        if self.binding is None and any(_is_bound(each) for each in tree_leaves((inputs, outputs))):
            self.binding = name


def _is_bound(item: Any) -> bool:
    """Whether the tracer has narrowed the range of the number of frames."""
    ranges = getattr(getattr(item, "fake_mode", None), "shape_env", None)
    known = getattr(ranges, "var_to_range", {})
    return any(each.lower > _LEAST_FRAMES or each.upper == each.lower for each in known.values())


def _differs(
    model: nn.Module, program: ExportedProgram, constants: dict[str, Tensor], bins: int
) -> int | None:
    """Frames of which the operators compute something else than the network.

    The tracer follows one path through the network, that of its example: others are found where
    they are taken by short utterances, or where a condition does not hold that the tracer noted.
    """
    generator = torch.Generator().manual_seed(0)
    for frames in sorted({*_COMPARED_FRAMES, *_doubtful(program.graph)}):
        feats = torch.randn(1, frames, bins, generator=generator)
        inputs = [
            constants.get(node.name, feats).clone()
            for node in program.graph.nodes
            if node.op == "placeholder"
        ]
        with torch.no_grad(), _quiet():
            try:
                expected = model(feats.clone())
            except Exception:  # noqa: BLE001 - too short, which a network says in many ways
                continue
            if isinstance(expected, Tensor) and not expected.isfinite().all():
                continue  # a deviation of one frame
            try:
                found = _Unchecked(program.graph_module).run(*inputs)[-1]
            except Exception:  # noqa: BLE001 - operators fail in many ways
                return frames
        if not _alike(found, expected):
            return frames
    return None


class _Unchecked(fx.Interpreter):
    """Runs operators, but not the tracer's conditions."""

    def run_node(self, node: fx.Node) -> Any:
        return None if node.target is _ASSERTION else super().run_node(node)


def _doubtful(graph: fx.Graph) -> set[int]:
    """Frames for which conditions do not hold that the tracer noted."""
    frames = set()
    for node in graph.nodes:
        if node.target is not _ASSERTION or not isinstance(node.args[0], fx.Node):
            continue
        condition = node.args[0].meta["val"].node.expr
        symbols = condition.free_symbols
        failing = (
            count
            for count in range(1, _EXAMPLE_FRAMES)
            if condition.subs(dict.fromkeys(symbols, count)) == False  # noqa: E712 - of sympy
        )
        frames |= set(itertools.islice(failing, 3))
    return frames


def _alike(found: Any, expected: Any) -> bool:
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor):
        return found == expected
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return found.shape == expected.shape and torch.allclose(
        found, expected, atol=_TOLERANCE * scale
    )


def layer_of(node: fx.Node) -> str:
    """The name of the module that an operator belongs to, such as `layer1.conv`."""
    stack = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    return stack[-1] if stack and stack[-1] else "the network itself"


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
