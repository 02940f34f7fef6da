"""The dense twin: what the same network weighs, and how fast it is, without its zeros."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sparsify.artifact.artifact import Artifact, copy_artifact, weights_table
from sparsify.exporters.onnx.writing import replace_weights

_FALLBACK_SCALE = 0.01


def write_dense_twin(artifact: Artifact, output: Path) -> None:
    """Writes a network like `artifact` whose zeros are random values of their tensor's scale.

    Args:
        artifact: Any `.onnx`, or a `.safetensors` of ours.
        output: A file of the same format, in dense layout.

    Raises:
        SparsifyError: The file cannot be written.
    """
    dense = _dense_weights(artifact)
    if artifact.format == "onnx":
        replace_weights(artifact.path, output, dense)
        return
    copy_artifact(replace(artifact, state=artifact.state | dense), output, "dense")


def _dense_weights(artifact: Artifact) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    dense = {}
    for layer in weights_table(artifact).prunable:
        weight = artifact.state[layer.name]
        nonzeros = weight[weight != 0]
        scale = nonzeros.square().mean().sqrt() if len(nonzeros) else _FALLBACK_SCALE
        noise = scale * torch.randn(weight.shape, generator=generator)
        dense[layer.name] = torch.where(weight == 0, noise.to(weight.dtype), weight)
    return dense
