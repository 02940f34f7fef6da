"""Counts what is told of a model file, whatever its format."""

from __future__ import annotations

from pathlib import Path

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.artifact.coded import entropy_bytes
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.provenance import COLLAPSED, is_ours
from sparsify.audio.features import frame_count
from sparsify.errors import SparsifyError
from sparsify.exporters.accounts import Account, Counted, account_key, keep_account
from sparsify.exporters.exporter import exporter_of
from sparsify.files import size_bytes, zipped_bytes
from sparsify.sparsity.work import SPEECH_SECONDS


def count_work(artifact: Artifact) -> Counted:
    """Counts for as many frames as the front end makes of two seconds, or says why it cannot."""
    frames = frame_count(artifact.front_end, SPEECH_SECONDS)
    try:
        return Counted(frames, exporter_of(artifact.format).work(artifact, frames))
    except SparsifyError as error:
        return Counted(frames, why_not=str(error))


def account_of(artifact: Artifact, zipped: int | None = None) -> Account:
    """What is told of a model.

    Args:
        artifact: The model.
        zipped: The bytes of its deployed file after deflate, if they are known.

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
        zipped_bytes=zipped_bytes(file) if zipped is None else zipped,
        entropy_bytes=entropy_bytes(artifact.state) if artifact.table is None else None,
    )


def counted_account(path: Path, *, trust: bool = False) -> tuple[Artifact, Account]:
    """Reads and counts a model, and keeps what is told of it where that may be kept.

    Args:
        path: A file, or a run directory.
        trust: Whether code that the file names as its network may be imported and run.

    Raises:
        SparsifyError: As `load_artifact` and `account_of`.
    """
    key = account_key(path)
    artifact = load_artifact(path, trust=trust)
    account = account_of(artifact)
    # What has changed meanwhile may have been read before that, or afterwards.
    if _may_be_kept(artifact) and key == account_key(path):
        _keep(key, account)
    return artifact, account


def keep_account_of(artifact: Artifact, zipped: int) -> None:
    """Counts a file that has just been written, so that `inspect` tells it at once.

    Args:
        artifact: As it was read again; no other process writes that file.
        zipped: The bytes of its deployed file after deflate.
    """
    if _may_be_kept(artifact):
        _keep(account_key(artifact.path), account_of(artifact, zipped))


def _may_be_kept(artifact: Artifact) -> bool:
    known = artifact.architecture is not None and not artifact.architecture.is_code
    return known and is_ours(artifact.metadata)


def _keep(key: str | None, account: Account) -> None:
    if key is not None:
        keep_account(key, account)
