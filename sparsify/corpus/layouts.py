"""Recognises how a corpus is laid out, and reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sparsify.audio.listing import AUDIO_SUFFIXES
from sparsify.corpus.corpus import UNLABELLED, Corpus, Listing, usable_corpus
from sparsify.corpus.inspection import inspect_audio
from sparsify.corpus.kaldi import is_kaldi, list_kaldi
from sparsify.corpus.manifest import read_manifest
from sparsify.corpus.shards import is_shard_list, list_shards
from sparsify.corpus.trees import (
    check_no_parts,
    is_cnceleb,
    is_librispeech,
    is_voxceleb,
    list_audio,
    list_folder,
    list_librispeech,
    list_unlabelled,
    list_voxceleb,
)
from sparsify.corpus.utterances import Utterances, UtterancesBuilder
from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.recipe.words import CorpusLayout

_PROBES = 16


@dataclass(frozen=True)
class _Layout:
    """A way in which a corpus may be laid out.

    Attributes:
        read: Lists the utterances.
        kind: What a corpus of this layout is, a `file` or a `folder`.
        recognises: Whether a file or folder looks like one; that of any kind which nothing else
            recognises is the last.
    """

    read: Callable[[Path, Track], Listing]
    kind: Literal["file", "folder"]
    recognises: Callable[[Path], bool] = lambda path: True


# In the order in which they are tried.
_LAYOUTS: dict[CorpusLayout, _Layout] = {
    "shards": _Layout(list_shards, "file", is_shard_list),
    "manifest": _Layout(read_manifest, "file"),
    "kaldi": _Layout(list_kaldi, "folder", is_kaldi),
    "librispeech": _Layout(list_librispeech, "folder", is_librispeech),
    "cnceleb": _Layout(list_voxceleb, "folder", is_cnceleb),
    "voxceleb": _Layout(list_voxceleb, "folder", is_voxceleb),
    "folder": _Layout(list_folder, "folder"),
    UNLABELLED: _Layout(list_unlabelled, "folder"),  # never recognised, for a folder is any
}


def load_corpus(
    path: str | Path,
    *,
    layout: CorpusLayout = "auto",
    strict: bool = False,
    track: Track = silent,
) -> Corpus:
    """Finds the utterances of a folder, a list or a manifest.

    The headers of files whose duration no list tells are read; of the others, a few are looked for.

    Args:
        path: What holds the corpus.
        layout: How; `auto` recognises it.
        strict: Raise for the first unusable file instead of skipping it.
        track: Shows progress.

    Raises:
        SparsifyError: There is no such corpus, it is malformed or has fewer than two usable
            speakers, or (`strict`) holds an unusable file.
    """
    path = Path(path)
    layout = training_layout(path, layout)
    listing = list_corpus(path, layout, track)
    _check_some_exist(listing.utterances, path)
    found = inspect_audio(listing.utterances, track)
    skipped = [*listing.skipped, *found.skipped]
    return usable_corpus(found.utterances, skipped, layout=layout, strict=strict)


def list_speech(path: Path, track: Track = silent) -> Listing:
    """Everything at a path that can be embedded: however little of a speaker, whoever that is.

    Args:
        path: A corpus as for `load_corpus`, an audio file, or a folder of these at any depth.
        track: Shows progress.

    Raises:
        SparsifyError: Nothing is there, or what is there is malformed.
    """
    if path.is_file() and path.suffix.lower() in AUDIO_SUFFIXES:
        builder = UtterancesBuilder(Path())
        builder.add(str(path), "", str(path))
        return Listing(builder.build())
    layout = detect_layout(path)
    if layout == "folder":
        return list_audio(path, track)
    listing = list_corpus(path, layout, track)
    _check_some_exist(listing.utterances, path)
    return listing


def detect_layout(path: Path) -> CorpusLayout:
    """The layout of what is at a path.

    Raises:
        SparsifyError: Nothing is there.
    """
    kind = "file" if path.is_file() else "folder"
    if kind == "folder" and not path.is_dir():
        raise SparsifyError(
            f"{path} is not a folder and not a file: give a folder that holds a folder per speaker,"
            " another corpus or a manifest"
        )
    of_kind = {name: layout for name, layout in _LAYOUTS.items() if layout.kind == kind}
    return next(name for name, layout in of_kind.items() if layout.recognises(path))


def training_layout(path: Path, layout: CorpusLayout) -> CorpusLayout:
    """The layout of what is trained on: the one that was asked for; of `auto`, what is there.

    Raises:
        SparsifyError: Nothing is there, or parts of a corpus where speakers belong.
    """
    if layout != "auto":
        return layout
    found = detect_layout(path)
    if found == "folder":
        check_no_parts(path)
    return found


def list_corpus(path: Path, layout: CorpusLayout, track: Track) -> Listing:
    """The utterances of a corpus, before anybody has looked at the audio.

    Raises:
        SparsifyError: The corpus is missing or malformed.
    """
    found = _LAYOUTS[layout]
    if not (path.is_file() if found.kind == "file" else path.is_dir()):
        raise SparsifyError(f"{path} is not a {found.kind}, as the layout '{layout}' needs")
    return found.read(path, track)


def _check_some_exist(utterances: Utterances, listed_in: Path) -> None:
    """A wrong folder must not become a million missing files."""
    known = np.flatnonzero(~np.isnan(utterances.seconds))
    probed = known[np.linspace(0, len(known) - 1, _PROBES).astype(int)] if len(known) else known
    paths = [utterances[place].path for place in probed.tolist()]
    if paths and not any(map(os.path.exists, paths)):
        raise SparsifyError(
            f"none of the files in {listed_in} is there, such as {paths[0]}: relative paths start"
            " at its folder"
        )
