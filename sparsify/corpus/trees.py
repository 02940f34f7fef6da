"""Corpora that are trees of folders: a folder per speaker somewhere below."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from sparsify.audio.listing import UNDECODABLE, audio_files, is_folder
from sparsify.corpus.corpus import Listing, Skipped
from sparsify.corpus.text_lists import lines_of, open_list
from sparsify.corpus.utterances import UtterancesBuilder
from sparsify.errors import SparsifyError
from sparsify.progress import Track

logger = logging.getLogger(__name__)

_SPLIT = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")  # of LibriSpeech
_SPEAKER = re.compile(r"id\d{5}")  # in VoxCeleb and CN-Celeb
# What may lie between the root and the speakers' folders; nothing else is searched for them.
_BETWEEN = re.compile(r"(?i)(wav|aac|flac|m4a|mp4|dev|test|data|vox|cn-?celeb).*")
_TEST = re.compile(r"(?i)(^|[_-])test($|[_-])")
_PART = re.compile(
    r"(?i)(train(ing)?|dev(elopment)?|test|val(id(ation)?)?|eval(uation)?)(set)?([_-][a-z]+)*"
)
_DEPTH = 4


def is_librispeech(root: Path) -> bool:
    """Whether a folder holds splits of LibriSpeech."""
    return bool(_splits(root))


def is_voxceleb(root: Path) -> bool:
    """Whether folders of speakers like `id10001` lie below a folder, but not directly in it."""
    homes = _numbered_homes(root)
    return bool(homes) and root not in homes


def is_cnceleb(root: Path) -> bool:
    """Whether a folder is like VoxCeleb, and those of the speakers lie in one called `data`."""
    return is_voxceleb(root) and any(home.name == "data" for home in _numbered_homes(root))


def list_folder(root: Path, track: Track) -> Listing:
    """A folder with one folder per speaker (nested folders allowed)."""
    return _list(root, [root], track)


def check_no_parts(root: Path) -> None:
    """Refuses a folder whose folders are parts of a corpus rather than speakers.

    They are named so, and hold folders.

    Raises:
        SparsifyError: They are.
    """
    folders = _subfolders(root)
    if not folders or not all(_PART.fullmatch(each.name) and _subfolders(each) for each in folders):
        return
    training = [each for each in folders if each.name.lower().startswith("train")]
    names, example = ", ".join(each.name for each in folders), (training or folders)[0]
    raise SparsifyError(
        f"the folders in {root} ({names}) are named like parts of a corpus: give one of them, such"
        f" as {example}, or the layout 'folder' if they are speakers"
    )


def list_audio(root: Path, track: Track) -> Listing:
    """All audio below a folder; who speaks is its first folder, and nobody knows without one.

    Raises:
        SparsifyError: There is none, or none that can be decoded.
    """
    builder = UtterancesBuilder(root)
    for name in _all_audio(root, track):
        speaker, inside, _ = name.partition("/")
        builder.add(name, speaker if inside else "", name)
    return Listing(builder.build())


def list_unlabelled(root: Path, track: Track) -> Listing:
    """All audio below a folder, of which nobody knows who speaks.

    Raises:
        SparsifyError: There is none, or none that can be decoded.
    """
    builder = UtterancesBuilder(root)
    for name in _all_audio(root, track):
        builder.add(name, "", name)
    return Listing(builder.build())


def _all_audio(root: Path, track: Track) -> list[str]:
    names = sorted(audio_files(root, track))
    if not names:
        raise SparsifyError(f"no audio under {root}: give a folder of audio files or a corpus")
    _refuse_undecodable(root, names)
    return names


def list_librispeech(root: Path, track: Track) -> Listing:
    """LibriSpeech: the speakers below the splits; the splits for training, if there are any."""
    splits = _splits(root)
    if not splits:
        raise SparsifyError(f"no folder like train-clean-100 in {root}: it is no LibriSpeech tree")
    training = [split for split in splits if split.name.startswith("train")]
    _note_left_out(set(splits) - set(training or splits))
    return _list(root, training or splits, track)


def list_voxceleb(root: Path, track: Track) -> Listing:
    """VoxCeleb and CN-Celeb: the folders `id…`, without those of the test parts."""
    homes = _numbered_homes(root)
    if not homes:
        raise SparsifyError(
            f"no folders of speakers like id10001 below {root}: it is no VoxCeleb or CN-Celeb tree"
        )
    parts = {home: home.relative_to(root).parts for home in homes}
    training = [home for home in homes if not any(map(_TEST.search, parts[home]))] or homes
    # Where somebody has converted aac/ to wav/, both are there.
    decodable = [home for home in training if f".{home.name}" not in UNDECODABLE] or training
    _note_left_out(set(homes) - set(decodable))
    return _list(root, decodable, track)


def _note_left_out(folders: Iterable[Path]) -> None:
    for folder in sorted(folders):
        logger.warning("%s is left out of the training data: give it as the path to use it", folder)


def _splits(root: Path) -> list[Path]:
    for folder in (root, root / "LibriSpeech"):
        splits = [child for child in _subfolders(folder) if _SPLIT.fullmatch(child.name)]
        if splits:
            return splits
    return []


def _numbered_homes(root: Path) -> list[Path]:
    """The folders that hold folders of speakers with numbers for names."""
    homes, level = [], [root]
    for _ in range(_DEPTH):
        below = []
        for folder in level:
            children = _subfolders(folder)
            if any(_SPEAKER.fullmatch(child.name) for child in children):
                homes.append(folder)
            else:
                below += [child for child in children if _BETWEEN.fullmatch(child.name)]
        level = below
    return homes


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if is_folder(entry))


def _development_speakers(home: Path) -> set[str] | None:
    """The speakers of CN-Celeb 1 that are not evaluated, for its data/ holds them all."""
    listed = home.parent / "dev" / "dev.lst"
    if home.name != "data" or not listed.is_file():
        return None
    with open_list(listed) as stream:
        return {name for line in lines_of(stream) for name in line.split()}


def _list(root: Path, homes: list[Path], track: Track) -> Listing:
    found: list[tuple[str, str]] = []
    strays: list[Path] = []
    for home in homes:
        wanted = _development_speakers(home)
        others: set[str] = set()
        prefix = "" if home == root else f"{home.relative_to(root).as_posix()}/"
        for name in audio_files(home, track):
            speaker, inside, _ = name.partition("/")
            if not inside:
                strays.append(home / name)
            elif wanted is None or speaker in wanted:
                found.append((prefix + name, speaker))
            else:
                others.add(speaker)
        if others:
            logger.warning(
                "%d speakers of %s are left out: they are not in dev/dev.lst", len(others), home
            )
    if not found and strays:
        raise SparsifyError(
            f"the audio files lie directly in {root}: put them into one folder per speaker, or"
            " learn from a distillation.teacher without labels, with --validation-trials"
        )
    if not found:
        raise SparsifyError(
            f"no audio under {root}: give a folder that holds a folder of audio files per speaker"
        )
    _refuse_undecodable(root, [name for name, _ in found])
    builder = UtterancesBuilder(root)
    for name, speaker in sorted(found):
        builder.add(name, speaker, name)
    outside = "lies outside the speaker folders"
    return Listing(builder.build(), [Skipped(path, outside) for path in sorted(strays)])


def _refuse_undecodable(root: Path, names: list[str]) -> None:
    """One sentence instead of a million skipped files."""
    if all(os.path.splitext(name)[1].lower() in UNDECODABLE for name in names):
        suffix = os.path.splitext(names[0])[1]
        raise SparsifyError(
            f"all {len(names)} audio files under {root} are {suffix[1:]} or alike, which libsndfile"
            " cannot decode: convert them, each with"
            f" ffmpeg -i FILE{suffix} -ac 1 -ar 16000 FILE.wav"
        )
