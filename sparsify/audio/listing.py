"""Audio files: which suffixes they have, and which there are below a folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent

# What libsndfile cannot read is listed, too, so that such files are reported and not overlooked.
UNDECODABLE = frozenset({".m4a", ".aac", ".wma", ".amr", ".mp4"})
AUDIO_SUFFIXES = UNDECODABLE | {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".sph", ".nist", ".voc"),
}
_DEEPEST = 64
logger = logging.getLogger(__name__)


def undecodable(path: Path) -> str | None:
    """What to do about a file whose suffix names a format that libsndfile does not decode."""
    suffix = path.suffix.lower()
    if suffix not in UNDECODABLE:
        return None
    return (
        f"libsndfile cannot decode {suffix[1:]}, convert it to wav or flac"
        f" (ffmpeg -i FILE{suffix} -ac 1 -ar 16000 FILE.wav)"
    )


def audio_files(folder: Path, track: Track = silent) -> Iterator[str]:
    """Paths below a folder, without what is hidden and what was converted into its neighbour.

    Args:
        folder: Where to look.
        track: Shows progress.

    Raises:
        SparsifyError: They lie too deep.
    """
    return _below(folder, {os.path.realpath(folder): str(folder)}, track, "")


def _below(folder: str | Path, seen: dict[str, str], track: Track, prefix: str) -> Iterator[str]:
    # A link back up would repeat everything under other names.
    if prefix.count("/") > _DEEPEST:
        raise SparsifyError(f"more than {_DEEPEST} folders in each other in {prefix}: flatten them")
    with os.scandir(folder) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    folders = [entry for entry in visible if is_folder(entry)]
    audio = [os.path.splitext(entry.name) for entry in visible if not is_folder(entry)]
    decodable = {stem for stem, suffix in audio if _decodable(suffix)}
    for stem, suffix in audio:
        if suffix.lower() in AUDIO_SUFFIXES and (_decodable(suffix) or stem not in decodable):
            yield prefix + stem + suffix
    for entry in track(folders, f"Listing {folder}", len(folders)):
        place = os.path.realpath(entry.path)
        if place in seen:
            logger.warning(
                "'%s' is left out: it is the same folder as '%s'", entry.path, seen[place]
            )
        else:
            seen[place] = entry.path
            yield from _below(entry.path, seen, silent, f"{prefix}{entry.name}/")


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder; a link to itself is no error but a broken file."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _decodable(suffix: str) -> bool:
    return suffix.lower() in AUDIO_SUFFIXES - UNDECODABLE
