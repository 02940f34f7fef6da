"""Export to ONNX: one file, dense weights with exact zeros, named like the state dict."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir
import torch
from onnx import numpy_helper
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.provenance import ABSENT, FEATURES, INPUT, KINDS, SAMPLES, TIED, counts
from sparsify.artifact.saving import canonical_state
from sparsify.defaults import FEWEST_FRAMES
from sparsify.errors import SparsifyError
from sparsify.exporters.networks import network_work
from sparsify.exporters.onnx.front_end import prepend_front_end
from sparsify.exporters.onnx.integers import as_stored
from sparsify.exporters.onnx.parameters import check_parameters, check_unused, tied_names, untie
from sparsify.exporters.onnx.quantised import quantised_metadata
from sparsify.exporters.onnx.quantising import quantise_graph
from sparsify.exporters.onnx.sealing import own_metadata, seal_graph
from sparsify.exporters.onnx.tensors import read_graph
from sparsify.exporters.quantise import Quantisation
from sparsify.exporters.quiet import quiet
from sparsify.models.layers import whole_weights
from sparsify.recipe.sections import FrontEnd
from sparsify.sparsity.table import Kind, parameter_kinds

# What the exporter's operators are written for, so that no version conversion touches the graph.
# The file format of the same release is all it needs, and what onnxruntime reads since 1.14;
# sherpa-onnx comes with an old one.
OPSET = 18
IR_VERSION = 8
_EXAMPLE_SHAPE = (2, 100)
_LOGGER = logging.getLogger(__name__)


def export_onnx(
    artifact: Artifact,
    output: Path,
    how: Quantisation | None = None,
    *,
    with_front_end: bool = False,
) -> None:
    """Writes an artifact as `.onnx`.

    Input `feats` `(B, T, bins)`, output `embs` `(B, D)`, axes `B` and `T` dynamic (T at least 2).
    The metadata has what sherpa-onnx reads, and our own keys with the prefix `sparsify.`,
    `sparsify.nonzero` being the number of nonzeros of each prunable tensor.

    Args:
        artifact: A model of ours, from any format.
        output: The file.
        how: For int8 layers; float32 if not given.
        with_front_end: Take samples `waveform` `(B, samples)` in place of features; sherpa-onnx,
            which computes features, does not load such a file.

    Raises:
        SparsifyError: The artifact does not say which network it is, the network cannot be
            exported, or a tensor that it uses did not survive bit by bit (in int8: its zeros).
        OSError: The file cannot be written.
    """
    model = whole_weights(artifact.build())
    state = canonical_state(model)
    model.load_state_dict(state)
    proto = _graph(model, artifact)
    tied = tied_names(model)
    untie(proto.graph, tied)
    absent = check_parameters(proto.graph, state, tied)
    check_unused(model, absent, torch.randn(*_EXAMPLE_SHAPE, artifact.front_end.num_mel_bins))
    own = artifact.exported_metadata(model, state)
    kinds = parameter_kinds(model, *artifact.selection)
    if absent:
        kinds = {name: kind for name, kind in kinds.items() if name not in absent}
        own |= {ABSENT: json.dumps(absent), KINDS: json.dumps(kinds), **counts(kinds, state)}
    if tied:
        own[TIED] = json.dumps(tied)
    nonzero = {name: int(state[name].count_nonzero()) for name in kinds if kinds[name].prunable}
    own["nonzero"] = json.dumps(nonzero)
    own[INPUT] = SAMPLES if with_front_end else FEATURES
    runtime = _runtime_metadata(proto, artifact.front_end, samples=with_front_end)
    if how is not None:
        proto, found = quantise_graph(proto, how, _work(artifact, state, kinds))
        own |= quantised_metadata(proto, kinds, own["source_digest"], found)
    if with_front_end:
        prepend_front_end(proto, artifact.front_end)
    onnx.helper.set_model_props(proto, runtime)
    seal_graph(proto, own)
    onnx.checker.check_model(proto, full_check=True)
    output.write_bytes(proto.SerializeToString(deterministic=True))


def replace_weights(
    source: Path, output: Path, tensors: Mapping[str, Tensor], *, ours: bool = True
) -> None:
    """Copies an `.onnx` file with other values in the named initializers.

    Args:
        source: The file.
        output: The copy.
        tensors: Values by name, as `read_graph` has them.
        ours: Whether the copy gets a seal, since what it is made from is as sparsify wrote it.

    Raises:
        SparsifyError: A weight is of a type in which none is written.
        OSError: The file cannot be written.
    """
    proto = onnx.load(source)
    integers = read_graph(source).integers
    for initializer in proto.graph.initializer:
        name = initializer.name
        if name in tensors:
            values = tensors[name]
            if name in integers.zero_points:
                stored = numpy_helper.to_array(initializer)
                if stored.dtype.isbuiltin != 1:
                    raise SparsifyError(
                        f"'{source}' has weights of {stored.dtype}, of which no dense twin is made"
                    )
                zero, scale = integers.zero_points[name], integers.scales[name]
                dtype = torch.from_numpy(stored.copy()).dtype
                values = as_stored(values, zero, scale, dtype)
            initializer.CopyFrom(numpy_helper.from_array(values.numpy(), name))
    if ours:
        seal_graph(proto, own_metadata(proto))
    output.write_bytes(proto.SerializeToString(deterministic=True))


def _work(
    artifact: Artifact, state: Mapping[str, Tensor], kinds: Mapping[str, Kind]
) -> dict[str, int]:
    """How much each prunable weight has to do: its multiply-adds, or else its size."""
    try:
        work = network_work(artifact, _EXAMPLE_SHAPE[1])
    except SparsifyError as error:
        _LOGGER.warning("layers are weighed by their sizes, not by their multiply-adds: %s", error)
        return {name: state[name].numel() for name, kind in kinds.items() if kind.prunable}
    return {name: each.multiply_adds for name, each in work.items()}


def _graph(model: nn.Module, artifact: Artifact) -> onnx.ModelProto:
    example = torch.zeros(*_EXAMPLE_SHAPE, artifact.front_end.num_mel_bins)
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
        raise SparsifyError(f"'{artifact.path}' cannot be exported to ONNX: {reason}") from error
    assert program is not None
    _simplify(program.model, set(model.state_dict()))
    return onnx_ir.to_proto(program.model)


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


def _runtime_metadata(
    proto: onnx.ModelProto, front_end: FrontEnd, *, samples: bool
) -> dict[str, str]:
    """What sherpa-onnx reads; it refuses a file that does not name a framework it knows."""
    dimension = proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    metadata = {
        "language": "unknown",
        "output_dim": str(dimension),
        "sample_rate": str(front_end.sample_rate),
    }
    if samples:
        return metadata
    if front_end.preset in ("speechbrain", "tfmel", "resemblyzer"):
        _LOGGER.warning(
            "sherpa-onnx cannot compute the front end '%s': the file is not marked as one that it"
            " can load",
            front_end.preset,
        )
        return metadata
    if front_end.preset != "sherpa":
        _LOGGER.warning(
            "the model's front end is '%s', but sherpa-onnx always computes 'sherpa':"
            " embeddings will differ there",
            front_end.preset,
        )
    return metadata | {
        "framework": "wespeaker",
        "normalize_samples": "0",  # features of samples in [-2¹⁵, 2¹⁵)
        "feature_normalize_type": "global-mean",
    }
