"""The multiply-adds of a model file, whatever its format, for two seconds of speech."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sparsify.artifact.artifact import Artifact
from sparsify.audio.features import frame_count
from sparsify.errors import SparsifyError
from sparsify.exporters.exporter import exporter_of
from sparsify.sparsity.table import LayerSparsity
from sparsify.sparsity.work import NO_WORK, SPEECH_SECONDS, Work, total_work


@dataclass(frozen=True)
class Counted:
    """The multiply-adds of a file.

    Attributes:
        frames: Of the utterance they are counted for.
        by_weight: Those of every weight that multiplies; `None` where they are not known.
        why_not: Why they are not.
    """

    frames: int
    by_weight: Mapping[str, Work] | None = None
    why_not: str | None = None

    def of(self, layers: Iterable[LayerSparsity]) -> Work | None:
        """Those of some layers together, if they are known."""
        if self.by_weight is None:
            return None
        return total_work(self.by_weight.get(layer.name, NO_WORK) for layer in layers)

    def to_json(self, layers: Iterable[LayerSparsity]) -> dict[str, Any]:
        """`multiply_adds mac_sparsity` of some layers, both null where they are not known."""
        work = self.of(layers)
        return {
            "multiply_adds": work.multiply_adds if work else None,
            "mac_sparsity": work.sparsity if work else None,
        }


def count_work(artifact: Artifact) -> Counted:
    """Counts for as many frames as the front end makes of two seconds, or says why it cannot."""
    frames = frame_count(artifact.front_end, SPEECH_SECONDS)
    try:
        return Counted(frames, exporter_of(artifact.format).work(artifact, frames))
    except SparsifyError as error:
        return Counted(frames, why_not=str(error))
