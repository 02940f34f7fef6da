"""The parameters of a network in its graph: every one once, and none that it does not use."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from sparsify.errors import SparsifyError
from sparsify.models.names import COUNTER


def tied_names(model: nn.Module) -> dict[str, str]:
    """The further names of parameters and buffers that have several, and the first of each."""
    tied, first = {}, dict[int, str]()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if first.setdefault(id(tensor), name) != name:
            tied[name] = first[id(tensor)]
    return tied


def untie(graph: onnx.GraphProto, tied: Mapping[str, str]) -> None:
    """Gives tied weights their first name, wherever a graph has them under another."""
    there = {tensor.name for tensor in graph.initializer}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in tied]:
        if tied[tensor.name] in there:
            graph.initializer.remove(tensor)
        else:
            there.add(tied[tensor.name])
            tensor.name = tied[tensor.name]
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = tied.get(name, name)


def check_parameters(
    graph: onnx.GraphProto, state: Mapping[str, Tensor], tied: Collection[str]
) -> list[str]:
    """Checks that the tensors of a network are in its graph bit by bit.

    Args:
        graph: The graph.
        state: The network's state dict.
        tied: Names under which tensors are there once more.

    Returns:
        The names of those that are not there at all.

    Raises:
        SparsifyError: One was changed.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    absent = []
    for name, expected in state.items():
        if name in tied or name.endswith(COUNTER):
            continue
        if name not in stored:
            absent.append(name)
            continue
        exported, values = numpy_helper.to_array(stored[name]), expected.numpy()
        if exported.shape != values.shape or exported.tobytes() != values.tobytes():
            raise SparsifyError(f"weight '{name}' was changed on its way into the ONNX graph")
    return absent


def check_unused(model: nn.Module, names: Collection[str], feats: Tensor) -> None:
    """Checks that tensors make no difference to embeddings.

    Args:
        model: The network, in eval mode; it is as it was afterwards.
        names: Of parameters and buffers.
        feats: Features `(B, T, bins)` to try it with.

    Raises:
        SparsifyError: They do.
    """
    if not names:
        return
    state = model.state_dict()
    kept = {name: state[name].clone() for name in names}
    with torch.inference_mode():
        before = model(feats)
        for name in names:
            state[name].fill_(torch.nan if state[name].is_floating_point() else 1)
        try:
            after = model(feats)
        finally:
            for name, values in kept.items():
                state[name].copy_(values)
    if not torch.equal(before, after):
        listed = "', '".join(sorted(names)[:3])
        raise SparsifyError(
            f"'{listed}' takes part in embeddings, but is not in the ONNX graph: forward must use"
            " it as it is"
        )
