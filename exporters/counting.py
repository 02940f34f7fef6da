"""Counts what is told of a model file, whatever its format.

Importing this module takes no torch, and counting takes some only of a `.pt`, of a network that is
met for the first time, or of one that is code.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.artifact.coded import entropy_bytes
from sparsify.artifact.provenance import COLLAPSED
from sparsify.audio.frames import frame_count
from sparsify.errors import SparsifyError, refused
from sparsify.exporters.accounts import Account, Counted
from sparsify.files import size_bytes, zipped_bytes
from sparsify.models.outlines import uses_in
from sparsify.models.registry import errors_of
from sparsify.named import named
from sparsify.sparsity.table import SparsityTable
from sparsify.sparsity.work import SPEECH_SECONDS, Work
from sparsify.sparsity.zeros import work_with


def network_work(artifact: Artifact, frames: int) -> dict[str, Work]:
    """The multiply-adds of the network in an artifact for one utterance, weight by weight.

    A network that is code runs once.

    Args:
        artifact: A model whose network is known.
        frames: Frames of the utterance.

    Raises:
        SparsifyError: It is not known, is code that is not trusted, does not take such features, or
            does something that is not counted.
    """
    known, bins = artifact.known_architecture(), artifact.front_end.num_mel_bins
    with errors_of(known.name):
        try:
            if known.is_code:
                artifact.check_trust()
                from sparsify.models.multiply_adds import weight_uses  # noqa: PLC0415

                counts = weight_uses(known, artifact.build, frames, bins)
                uses = {name: each.numpy() for name, each in counts.items()}
            else:
                uses = uses_in(known, frames, bins)
            return work_with(uses, artifact.arrays)
        except (RuntimeError, ValueError, LookupError) as error:
            raise refused(known.name, (1, frames, bins), error) from error


def work_of(artifact: Artifact, frames: int) -> dict[str, Work]:
    """The multiply-adds of any model for one utterance, by the weight that multiplies.

    Args:
        artifact: The model.
        frames: Frames of the utterance.

    Raises:
        SparsifyError: As `network_work`; or its graph, of which no network is known, does something
            that is not counted.
    """
    if artifact.architecture is not None or artifact.format.counter is None:
        return network_work(artifact, frames)
    work: dict[str, Work] = named(artifact.format.counter)(artifact, frames)
    return work


def count_work(artifact: Artifact) -> Counted:
    """Counts for as many frames as the front end makes of two seconds, or says why it cannot."""
    frames = frame_count(artifact.front_end, SPEECH_SECONDS)
    try:
        return Counted(frames, work_of(artifact, frames))
    except SparsifyError as error:
        return Counted(frames, why_not=str(error))


def account_of(artifact: Artifact) -> Account:
    """What is told of a model.

    Raises:
        SparsifyError: Its tensors do not fit its architecture, or it has none that count.
    """
    files = [artifact.format.deployed_file(artifact.path), *artifact.beside]
    table = weights_table(artifact)
    return Account(
        path=artifact.path,
        format=artifact.format,
        layout=artifact.layout,
        quantised=artifact.quantised,
        takes_samples=artifact.takes_samples,
        collapsed=artifact.metadata.get(COLLAPSED),
        ignore=list(artifact.selection.ignore) if artifact.architecture else None,
        left_out=[*artifact.left_out, *_no_numbers(artifact, table)],
        table=table,
        counted=count_work(artifact),
        bytes=sum(map(size_bytes, files)),
        zipped_bytes=sum(map(zipped_bytes, files)),
        entropy_bytes=entropy_bytes(artifact.arrays) if artifact.table is None else None,
    )


def _no_numbers(artifact: Artifact, table: SparsityTable) -> Iterator[str]:
    """Sentences about weights that no network can compute with."""
    for layer in table.prunable:
        array = artifact.arrays.get(layer.name)
        if array is None:  # merged into others, in a graph
            continue
        if wrong := array.size - int(np.isfinite(array).sum()):
            yield (
                f"'{layer.name}' holds values that are no finite numbers,"
                f" {wrong:,} of {array.size:,}"
            )
