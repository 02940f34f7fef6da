"""Graphs of networks by their architecture: one that was traced serves other weights, too.

Tracing takes most of the time of an export, and what comes out depends on the architecture alone.
So the graph is kept without its weights in the user's cache. It is not trusted: with the weights in
it, it has to compute what the network does, or it is thrown away and traced anew.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from sparsify.artifact.artifact import Artifact
from sparsify.errors import SparsifyError
from sparsify.exporters.networks import torch_network
from sparsify.exporters.onnx.parameters import check_parameters, tied_names
from sparsify.exporters.onnx.session import onnx_network
from sparsify.exporters.onnx.tensors import GRAPH_ERRORS
from sparsify.exporters.parity import check_parity, made_up_batches
from sparsify.recipe.sections import FrontEnd
from sparsify.user_cache import Shelf, code_digest

_SHELF = Shelf("graphs", 1 << 26)
_VERSIONED = ("torch", "onnx", "onnx-ir", "onnxscript", "sparsify-speaker")
_LENGTHS, _BATCHES = (20, 98), (1, 2)


def graph_of(model: nn.Module, artifact: Artifact) -> onnx.ModelProto:
    """The graph of a network, with its weights, named like its state dict.

    Args:
        model: The network of the artifact, in eval mode.
        artifact: Which architecture it has. Of code, which may do something else every time, no
            graph is kept.

    Raises:
        SparsifyError: It cannot be exported.
    """
    state, front_end = model.state_dict(), artifact.front_end
    known = artifact.architecture
    key = None if known is None or known.is_code else _key(known.to_json(), model, front_end)
    if key is not None and (found := _kept_graph(key, model, state, front_end)):
        return found
    # Imported only here: this alone takes seconds.
    from sparsify.exporters.onnx.tracing import traced_graph  # noqa: PLC0415

    proto = traced_graph(model, front_end.num_mel_bins, artifact.path)
    check_parameters(proto.graph, state, tied_names(model))
    if key is not None:
        _SHELF.put(key, _without(state, proto).SerializeToString(deterministic=True))
    return _with(state, proto)


def _kept_graph(
    key: str, model: nn.Module, state: Mapping[str, Tensor], front_end: FrontEnd
) -> onnx.ModelProto | None:
    """The graph that is kept, with weights, if it computes what the network does."""
    content = _SHELF.get(key)
    if content is None:
        return None
    try:
        proto = _with(state, onnx.ModelProto.FromString(content))
        check_parameters(proto.graph, state, tied_names(model))
        wrong = _difference(proto, model, front_end)
    except (SparsifyError, *GRAPH_ERRORS) as error:
        wrong = str(error)
    if wrong:
        _SHELF.discard(key, wrong)
        return None
    return proto


def _difference(proto: onnx.ModelProto, model: nn.Module, front_end: FrontEnd) -> str:
    """How a graph differs from its network, or nothing."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "graph.onnx")
        file.write_bytes(proto.SerializeToString())
        found = check_parity(
            torch_network(model),
            onnx_network(file, front_end.num_mel_bins),
            batches=made_up_batches(front_end, _LENGTHS, _BATCHES),
        )
    return "" if found.passed else f"it differs from the network by {found.max_abs_error:.2g}"


def _without(state: Mapping[str, Tensor], proto: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with the names, types and shapes of a network's tensors, and not their values."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for tensor in bare.graph.initializer:
        if tensor.name in state:
            described = {"name": tensor.name, "data_type": tensor.data_type, "dims": tensor.dims}
            tensor.CopyFrom(onnx.TensorProto(**described))
    return bare


def _with(state: Mapping[str, Tensor], proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph itself, which now has the values of a network's tensors.

    Raises:
        SparsifyError: A tensor has another shape there, or lies in another file.
    """
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise SparsifyError(f"'{tensor.name}' lies in another file")
        if tensor.name in state:
            own = numpy_helper.from_array(state[tensor.name].numpy(), tensor.name)
            if (own.dims, own.data_type) != (tensor.dims, tensor.data_type):
                raise SparsifyError(f"'{tensor.name}' has another shape in the network")
            tensor.CopyFrom(own)
    return proto


def _key(architecture: Mapping[str, object], model: nn.Module, front_end: FrontEnd) -> str:
    """All that a graph depends on; the code of the networks is part of that."""
    tensors = {name: [str(each.dtype), *each.shape] for name, each in model.state_dict().items()}
    told = {
        "architecture": architecture,
        "bins": front_end.num_mel_bins,
        "tensors": tensors,
        "tied": tied_names(model),
        "versions": {name: metadata.version(name) for name in _VERSIONED},
        "python": sys.version,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "code": code_digest("sparsify.models", "sparsify.exporters.onnx"),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
