"""Counts what is told of a model file, whatever its format.

Importing this module takes no torch, and counting takes some only of a `.pt`, of a network that is
met for the first time, or of one that is code.
"""

from __future__ import annotations

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
    file = artifact.format.deployed_file(artifact.path)
    return Account(
        path=artifact.path,
        format=artifact.format,
        layout=artifact.layout,
        quantised=artifact.quantised,
        takes_samples=artifact.takes_samples,
        collapsed=artifact.metadata.get(COLLAPSED),
        ignore=list(artifact.selection.ignore) if artifact.architecture else None,
        left_out=list(artifact.left_out),
        table=weights_table(artifact),
        counted=count_work(artifact),
        bytes=size_bytes(file),
        zipped_bytes=zipped_bytes(file),
        entropy_bytes=entropy_bytes(artifact.arrays) if artifact.table is None else None,
    )
