"""Export to safetensors, in either layout."""

from __future__ import annotations

from pathlib import Path

from sparsify.artifact.artifact import Artifact, Layout, write_artifact


def export_safetensors(artifact: Artifact, output: Path, layout: Layout = "dense") -> None:
    """Writes an artifact as `.safetensors`, with its front end, recipe and mean embedding.

    Args:
        artifact: A model of ours, from any format.
        output: The file; replaced if it exists.
        layout: `dense` (exact zeros, loads in anything) or `bitmask` (zeros take one bit).

    Raises:
        SparsifyError: The artifact does not say which network it is, or the file cannot be written.
    """
    write_artifact(
        artifact.build(), output, artifact.front_end, artifact.recipe, layout, artifact.measured
    )
