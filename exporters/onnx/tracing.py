"""The graph of a network as PyTorch's exporter makes it, which takes long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import torch
from onnx import helper, numpy_helper
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)
from onnxscript.optimizer import fold_constants
from torch import nn

from sparsify.defaults import FEWEST_FRAMES
from sparsify.errors import SparsifyError
from sparsify.exporters.quiet import quiet

# What the exporter's operators are written for, so that no version conversion touches the graph.
# The file format of the same release is all it needs, and what onnxruntime reads since 1.14;
# sherpa-onnx comes with an old one.
OPSET = 18
IR_VERSION = 8
_EXAMPLE_SHAPE = (2, 100)


def traced_graph(model: nn.Module, bins: int, source: Path) -> onnx.ModelProto:
    """The graph of a network in eval mode, its initializers named like the state dict.

    Args:
        model: The network.
        bins: Of its features.
        source: Where it was read, for an error.

    Raises:
        SparsifyError: It cannot be exported.
    """
    example = torch.zeros(*_EXAMPLE_SHAPE, bins)
    dynamic = {0: torch.export.Dim("B", min=1), 1: torch.export.Dim("T", min=FEWEST_FRAMES)}
    try:
        with quiet("torch.onnx"):
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=["feats"],
                output_names=["embs"],
                dynamic_shapes=(dynamic,),
                # The exporter's optimizer merges equal initializers (two weights pruned to zero
                # are equal) and drops zero biases, so names would be lost.
                optimize=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise SparsifyError(f"'{source}' cannot be exported to ONNX: {reason}") from error
    assert program is not None
    _simplify(program.model, set(model.state_dict()))
    proto = onnx_ir.to_proto(program.model)
    _write_for_older_tools(proto.graph)
    return proto


def _simplify(graph_model: onnx_ir.Model, parameters: set[str]) -> None:
    """Turns the exporter's sequences into plain splits; never computes with a parameter."""

    def keep(node: onnx_ir.Node) -> bool | None:
        uses_parameter = any(
            value is not None and value.name in parameters for value in node.inputs
        )
        return False if uses_parameter else None

    fold_constants(graph_model, should_fold=keep)
    # The node metadata holds stack traces with the paths of this machine.
    for each in (
        IdentityEliminationPass(),
        RemoveUnusedNodesPass(),
        # Other tools look for axes among the initializers, and fail over constants that are lists.
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        ClearMetadataAndDocStringPass(),
    ):
        each(graph_model)
    graph_model.ir_version = IR_VERSION
    graph = graph_model.graph
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()


def _write_for_older_tools(graph: onnx.GraphProto) -> None:
    """What other tools misread is said in another way.

    Shapes of initializers are told once: the quantiser of onnxruntime 1.30 transposes a
    weight, and then fails over what else tells its old shape. Its shape inference takes a `Shape`
    of one axis for that of all.
    """
    initializers = {tensor.name for tensor in graph.initializer}
    told = [value for value in graph.value_info if value.name not in initializers]
    del graph.value_info[:]
    graph.value_info.extend(told)
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        axes = {each.name: each.i for each in node.attribute}
        start = axes.get("start", -1)
        if node.op_type == "Shape" and start >= 0 and axes.get("end") == start + 1:
            length = node.output[0]
            shape, axis = f"{length}_shape", f"{length}_axis"
            graph.initializer.append(numpy_helper.from_array(np.array([start]), axis))
            graph.node.append(helper.make_node("Shape", node.input, [shape], f"{node.name}_shape"))
            graph.node.append(helper.make_node("Gather", [shape, axis], [length], node.name))
        else:
            graph.node.append(node)
