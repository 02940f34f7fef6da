"""Graphs as the authors of ONNX compute them: slow, in NumPy, and one operator at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from sparsify.exporters.networks import Network
from sparsify.exporters.onnx.front_end import without_front_end
from sparsify.exporters.onnx.tensors import takes_samples

_OPSET = 19  # the first in which it knows quantised values; of what we write nothing else changed


def reference_network(path: Path) -> Network:
    """A graph of ours in onnx's reference implementation, from features to embeddings.

    Args:
        path: The file; if it takes samples, its front end is left out.
    """
    model = onnx.load(path)
    if takes_samples(model):
        without_front_end(model)
    model.opset_import[0].version = max(model.opset_import[0].version, _OPSET)
    evaluator = ReferenceEvaluator(model)
    name = model.graph.input[0].name

    def embed(feats: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs: Any = evaluator.run(None, {name: feats})
        embeddings: NDArray[np.float32] = outputs[0]
        return embeddings

    return embed
