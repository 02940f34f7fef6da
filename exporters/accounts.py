"""What is told of a model file; importing this module takes no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.artifact.formats import Format
from sparsify.sparsity.table import LayerSparsity, SparsityTable
from sparsify.sparsity.work import NO_WORK, Work, total_work


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


@dataclass(frozen=True)
class Account:
    """What is told of a model file without computing anything with it.

    Attributes:
        path: The file.
        format: Its format.
        layout: How it stores its zeros.
        quantised: Whether it computes in integers.
        takes_samples: Whether it computes its features itself.
        collapsed: Why the model cannot verify speakers, if it cannot.
        ignore: Names that its recipe protects from pruning; `None` where no network is known.
        left_out: Sentences about what may be weights and was not counted, and about weights that
            are no finite numbers.
        table: Its parameters.
        counted: Its multiply-adds.
        bytes: Size of what is deployed.
        zipped_bytes: That after deflate.
        entropy_bytes: The entropy of what it holds, where the tensors are all there.
    """

    path: Path
    format: Format
    layout: str
    quantised: bool
    takes_samples: bool
    collapsed: str | None
    ignore: Sequence[str] | None
    left_out: Sequence[str]
    table: SparsityTable
    counted: Counted
    bytes: int
    zipped_bytes: int
    entropy_bytes: int | None
