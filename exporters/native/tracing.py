"""A network as a graph of PyTorch's core operators, for any number of frames."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from sparsify.errors import SparsifyError
from sparsify.exporters.networks import first_line

# So long that no length in the network is 1, which the tracer would take for a constant.
_EXAMPLE_FRAMES = 1024
_LEAST_FRAMES = 256
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
    """

    graph: fx.Graph
    constants: dict[str, Tensor]
    feats: fx.Node
    output: fx.Node


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
    frames = torch.export.Dim("T", min=_LEAST_FRAMES)
    table = torch.export.default_decompositions()
    for kept in _KEPT:
        table.pop(kept, None)
    try:
        with _quiet():
            exported = torch.export.export(
                model,
                (torch.zeros(1, _EXAMPLE_FRAMES, bins),),
                dynamic_shapes=({1: frames},),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
            program = exported.run_decompositions(table)
    except Exception as error:
        raise SparsifyError(f"'{name}' cannot be traced: {first_line(error)}") from error
    signature = program.graph_signature
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
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    (returned,) = output.args
    if len(signature.user_inputs) != 1 or len(returned) != 1:
        raise SparsifyError(f"'{name}' must map one tensor to one tensor")
    return Trace(
        program.graph,
        constants,
        inputs[str(signature.user_inputs[0])],
        returned[0],
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
