"""Export to ONNX: one file, dense weights with exact zeros, named like the state dict."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.description import exported_metadata
from sparsify.artifact.formats import FEATURES, SAMPLES
from sparsify.artifact.provenance import ABSENT, INPUT, KINDS, TIED, counts
from sparsify.artifact.saving import canonical_state
from sparsify.errors import SparsifyError, first_line
from sparsify.exporters.counting import network_work
from sparsify.exporters.onnx.front_end import prepend_front_end
from sparsify.exporters.onnx.graphs import graph_of
from sparsify.exporters.onnx.integers import as_stored
from sparsify.exporters.onnx.parameters import check_parameters, check_unused, tied_names, untie
from sparsify.exporters.onnx.quantised import quantised_metadata
from sparsify.exporters.onnx.quantising import quantise_graph
from sparsify.exporters.onnx.sealing import own_metadata, seal_graph
from sparsify.exporters.onnx.tensors import read_graph
from sparsify.exporters.quantise import Quantisation
from sparsify.models.layers import whole_weights
from sparsify.recipe.sections import FrontEnd
from sparsify.sparsity.counting import parameter_kinds
from sparsify.sparsity.table import Kind
from sparsify.tensors import arrays_of

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
    own = exported_metadata(artifact, model, state)
    kinds = parameter_kinds(model, *artifact.selection)
    if absent:
        kinds = {name: kind for name, kind in kinds.items() if name not in absent}
        own |= {
            ABSENT: json.dumps(absent),
            KINDS: json.dumps(kinds),
            **counts(kinds, arrays_of(state)),
        }
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
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise SparsifyError(
            f"'{artifact.path}' cannot be exported to ONNX: the exporter of torch"
            f" {torch.__version__} makes a graph of it that contradicts itself"
            f" ({first_line(error)}); a newer torch may not"
        ) from error
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
    arrays, integers = arrays_of(tensors), read_graph(source).integers
    for initializer in proto.graph.initializer:
        name = initializer.name
        if name in arrays:
            values = arrays[name]
            if name in integers.zero_points:
                stored = numpy_helper.to_array(initializer)
                if not np.issubdtype(stored.dtype, np.integer):
                    raise SparsifyError(
                        f"'{source}' has weights of {stored.dtype}, of which no dense twin is made"
                    )
                zero, scale = integers.zero_points[name], integers.scales[name]
                values = as_stored(values, zero, scale, stored.dtype)
            initializer.CopyFrom(numpy_helper.from_array(values, name))
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
    return graph_of(model, artifact)


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
