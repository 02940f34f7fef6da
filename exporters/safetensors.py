"""The format safetensors: with its zeros, which loads in anything, or without, which is small."""

from __future__ import annotations

from pathlib import Path

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.formats import DENSE
from sparsify.artifact.saving import copy_artifact, write_artifact
from sparsify.exporters.exporter import Exporter
from sparsify.exporters.twin import dense_model


class SafetensorsExporter(Exporter):
    """With front end, recipe and mean embedding; run by PyTorch."""

    def write(self, artifact: Artifact, output: Path, layout: str) -> None:
        """A file in any layout."""
        write_artifact(
            artifact.build(), output, artifact.front_end, artifact.recipe, layout, artifact.measured
        )

    def twin(self, artifact: Artifact, output: Path) -> None:
        """The twin, for which no network is built."""
        copy_artifact(dense_model(artifact), output, DENSE)
