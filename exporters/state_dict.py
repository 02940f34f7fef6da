"""PyTorch's files of bare weights, which are only read."""

from __future__ import annotations

from pathlib import Path

from sparsify.artifact.state_dicts import read_state_dict
from sparsify.artifact.weights import Weights
from sparsify.exporters.exporter import Exporter


class StateDictExporter(Exporter):
    """What `torch.save` wrote; a network is in it if another toolkit's model is."""

    def read(self, path: Path) -> Weights:
        """The tensors of a state dict, whatever wraps it."""
        return Weights(read_state_dict(path))
