"""Whether traced operators do what their network does, whatever the number of frames.

The tracer follows one path through the network, that of its example. Others are found where short
utterances take them, or where a condition does not hold that the tracer noted.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from functools import partial
from typing import Any

import sympy
import torch
from torch import Tensor, fx, nn

from sparsify.exporters.quiet import quiet

_COMPARED_FRAMES = (1, 2, 3, 10, 30, 100)
_TOLERANCE = 1e-3
_ASSERTION = torch.ops.aten._assert_scalar.default
# What PyTorch's operators raise if they do not take what they are given.
_OPERATOR_ERRORS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


def difference(
    model: nn.Module,
    traced: fx.GraphModule,
    constants: dict[str, Tensor],
    bins: int,
    example_frames: int,
) -> str | None:
    """What in a network takes another path than the one that was traced, in words.

    Args:
        model: The network.
        traced: Its operators.
        constants: Tensors, by the names of their placeholders.
        bins: Features of a frame.
        example_frames: Frames of the example that was traced.
    """
    generator = torch.Generator().manual_seed(0)
    for frames in sorted({*_COMPARED_FRAMES, *_doubtful(traced.graph, example_frames)}):
        feats = torch.randn(1, frames, bins, generator=generator)
        inputs = [
            constants.get(node.name, feats)
            for node in traced.graph.nodes
            if node.op == "placeholder"
        ]
        with torch.no_grad(), quiet("torch"):
            try:
                expected = model(feats.clone())
            except Exception:  # noqa: BLE001 - anybody's code says in its own way: too short
                continue
            if isinstance(expected, Tensor) and not expected.isfinite().all():
                continue  # a deviation of one frame
            try:
                found = _Unchecked(traced).run(*(each.clone() for each in inputs))[-1]
            except _OPERATOR_ERRORS:
                found = None
            if not _alike(found, expected):
                path = _parting(model, traced, inputs, feats)
                return (
                    f"{called(model, path)} does something else with {frames} frames than with many"
                )
    return None


def called(model: nn.Module, path: str) -> str:
    """A module, in words."""
    kind = type(model.get_submodule(path)).__name__
    return f"operator '{kind}' of '{path}'" if path else f"the network itself ('{kind}')"


def modules_of(node: fx.Node) -> list[str]:
    """The names of the modules that an operator belongs to, the outermost first."""
    return [path for path, _ in node.meta.get("nn_module_stack", {}).values()]


class _Unchecked(fx.Interpreter):
    """Runs operators, but not the tracer's conditions."""

    def run_node(self, node: fx.Node) -> Any:
        """Runs one."""
        return None if node.target is _ASSERTION else super().run_node(node)


class _Recorded(_Unchecked):
    """Keeps what each module computes."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.results: dict[str, list[Any]] = {
            path: [] for node in traced.graph.nodes for path in modules_of(node)
        }

    def run_node(self, node: fx.Node) -> Any:
        """Runs one."""
        result = super().run_node(node)
        for path in modules_of(node):
            self.results[path].append(result)
        return result


def _parting(model: nn.Module, traced: fx.GraphModule, inputs: list[Tensor], feats: Tensor) -> str:
    """The first module that ends with something that no operator of it has computed."""
    run = _Recorded(traced)
    with suppress(*_OPERATOR_ERRORS):
        run.run(*(each.clone() for each in inputs))
    parted: list[str] = []

    def ends(path: str, module: nn.Module, inputs: Any, output: Any) -> None:
        results = run.results.get(path)
        if results is not None and not any(_alike(each, output) for each in results):
            parted.append(path)

    handles = [
        module.register_forward_hook(partial(ends, path)) for path, module in model.named_modules()
    ]
    try:
        model(feats.clone())
    finally:
        for handle in handles:
            handle.remove()
    return parted[0] if parted else ""


def _doubtful(graph: fx.Graph, example_frames: int) -> set[int]:
    """Frames for which conditions do not hold that the tracer noted."""
    frames = set()
    for node in graph.nodes:
        if node.target is not _ASSERTION or not isinstance(node.args[0], fx.Node):
            continue
        condition = node.args[0].meta["val"].node.expr
        failing = (count for count in range(1, example_frames) if _fails(condition, count))
        frames |= set(itertools.islice(failing, 3))
    return frames


def _fails(condition: sympy.Basic, frames: int) -> bool:
    try:
        value = condition.subs(dict.fromkeys(condition.free_symbols, frames))
    except (ZeroDivisionError, AssertionError):  # so few that less than one is left somewhere
        return False
    return bool(value == False)  # noqa: E712 - of sympy


def _alike(found: Any, expected: Any) -> bool:
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor):
        return found is not None and found == expected
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return found.shape == expected.shape and torch.allclose(
        found, expected, atol=_TOLERANCE * scale
    )
