"""WeSpeaker's shards: tars of `key.wav` and `key.spk`, read where they lie and never unpacked."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

from sparsify.audio.listing import AUDIO_SUFFIXES, undecodable
from sparsify.audio.parallel import in_threads
from sparsify.corpus.corpus import Listing, Skipped
from sparsify.corpus.text_lists import lines_of, open_list, start_of_paths
from sparsify.corpus.utterances import UtterancesBuilder
from sparsify.errors import SparsifyError
from sparsify.progress import Track

_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
# First bytes of gzip, bzip2, xz and zstandard.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_MOST_READ = 1 << 20
_LONGEST_NAME = 1 << 12  # bytes of a speaker's name
# What tarfile ends in on headers of nonsense.
_BROKEN = (tarfile.TarError, OSError, ValueError, LookupError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class _Index:
    """Where audio lies in a tar: key, name of the member, first byte, length; and who speaks."""

    audio: list[tuple[str, str, int, int]]
    speakers: dict[str, str]
    problem: str | None = None


def is_shard_list(path: Path) -> bool:
    """Whether the first line of a file names a tar."""
    with open_list(path) as stream:
        return stream.readline(1 << 16).strip().endswith(_TARS)


def list_shards(path: Path, track: Track) -> Listing:
    """Indexes the tars that a list names, one per line; paths start as in a manifest.

    One pass over the headers of a tar's members finds where each begins, so that later any of them
    is read at once.

    Raises:
        SparsifyError: A tar is missing or compressed, two utterances have the same key, or one has
            two speakers or an empty name of one.
    """
    with open_list(path) as stream:
        tars = [line.strip() for line in lines_of(stream) if line.strip()]
    builder = UtterancesBuilder(start_of_paths(path, tars[0]) if tars else path.parent)
    skipped: list[Skipped] = []
    files = [builder.root / tar for tar in tars]
    for tar, file, index in zip(
        tars, files, in_threads(_index, files, track, "Indexing shards"), strict=True
    ):
        if index.problem:
            skipped.append(Skipped(file, index.problem))
        for key, name, offset, size in index.audio:
            reason = undecodable(Path(name))
            if key not in index.speakers:
                reason = "no .spk of that name"
            if reason:
                skipped.append(Skipped(file / name, reason))
                continue
            try:
                builder.add(key, index.speakers[key], tar, offset=offset, size=size)
            except ValueError as error:
                raise SparsifyError(f"{file}, '{name}': {error}") from error
        silent = sorted(index.speakers.keys() - {key for key, *_ in index.audio})
        skipped += [Skipped(file / f"{key}.spk", "no audio of that name") for key in silent]
    return Listing(builder.build(), skipped)


def _index(path: Path) -> _Index:
    if not os.path.isfile(path):
        raise SparsifyError(
            f"no shard {path}: paths start at the folder of the list, or at the current one"
        )
    index = _Index([], {})
    with _Blocks(path) as stream:
        if stream.read(6).startswith(_COMPRESSED):
            raise SparsifyError(
                f"{path} is compressed, so that nothing in it can be read at once: unpack it to a"
                " plain tar (gunzip, unxz, zstd -d) and list that"
            )
        stream.seek(0)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                end = path.stat().st_size
                for member in tar:
                    # A negative length would lead back, and round in a circle.
                    if member.size < 0 or member.offset_data + member.size > end:
                        return replace(index, problem=f"a broken tar (cut at {member.offset})")
                    _add(index, tar, member)
                stream.seek(tar.offset)
                if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile stops without a word
                    return replace(index, problem=f"a broken tar (no header at {tar.offset})")
        except SparsifyError as error:
            raise SparsifyError(f"{path}: {error}") from error
        except _BROKEN as error:
            return replace(index, problem=f"a broken tar ({error})")
    return index


class _Blocks(io.FileIO):
    """A file of which nobody can demand terabytes, as headers of nonsense do of tarfile."""

    def read(self, size: int | None = -1) -> bytes:
        """At most so many bytes, and no more than any header has."""
        return super().read(_MOST_READ if size is None or size < 0 else min(size, _MOST_READ))


def _add(index: _Index, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    key, suffix = os.path.splitext(member.name)
    if not member.isfile() or member.issparse():
        return
    if suffix == ".spk" and (content := tar.extractfile(member)):
        name = content.read(_LONGEST_NAME).decode("utf-8", "surrogateescape").strip()
        if not name:
            raise SparsifyError(f"'{member.name}' is empty: write the speaker in it")
        if index.speakers.setdefault(key, name) != name:
            raise SparsifyError(
                f"'{member.name}' is there twice, with the speakers"
                f" '{index.speakers[key]}' and '{name}': remove one of them"
            )
    elif suffix.lower() in AUDIO_SUFFIXES:
        index.audio.append((key, member.name, member.offset_data, member.size))
