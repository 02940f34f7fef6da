"""What a run is made from, so that it is noticed when it goes on with anything else.

Settings and files as flat texts by name, some of them digests: small, and quick to compare.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sparsify.artifact.loading import load_artifact
from sparsify.artifact.seals import source_digest
from sparsify.audio.listing import audio_files
from sparsify.audio.parallel import in_threads
from sparsify.corpus.corpus import Corpus
from sparsify.errors import SparsifyError
from sparsify.progress import silent
from sparsify.recipe.recipe import Recipe
from sparsify.training.compute import Compute
from sparsify.training.data import SpeechData

logger = logging.getLogger(__name__)

Texts = dict[str, str]

_MOST_FILES = 5000  # whose sizes are looked up: seconds even on a slow network drive
_SHOWN = 3  # changes in an error
_DIGITS = 16  # of a digest


class Origin:
    """What a run is made from.

    Args:
        path: The run directory, for errors.
        saved: `state_dict()` as a checkpoint has it; `None` for a new run.
        accept_changes: Go on with other settings and files than the run began with.

    Attributes:
        changed: What was accepted so far, in words.
    """

    def __init__(
        self, path: Path, saved: Mapping[str, Any] | None, *, accept_changes: bool
    ) -> None:
        self.path = path
        self.accept_changes = accept_changes
        self.changed: list[str] = [] if saved is None else list(saved["changed"])
        self._compute: str | None = None if saved is None else saved["compute"]
        self._parts: dict[str, Texts] = {}
        if saved is not None:
            self._parts = {part: dict(saved[part]) for part in ("settings", "files")}

    def take(self, part: Literal["settings", "files"], now: Texts) -> None:
        """Compares a part with what it was, if it was anything, and puts it in its place.

        Raises:
            SparsifyError: It has changed, which is not accepted.
        """
        then = self._parts.get(part, now)
        # Sizes of files cannot be compared with samples in memory.
        both = then.keys() & now.keys()
        known, found = (
            {name: value for name, value in each.items() if part == "settings" or name in both}
            for each in (then, now)
        )
        changed = changes(known, found)
        if changed and not self.accept_changes:
            raise SparsifyError(
                f"'{self.path}' was begun with other {part}: {some_of(changed)}; restore them, or"
                " go on with --resume --accept-changes"
            )
        self.changed += changed
        self._parts[part] = now

    def take_compute(self, compute: Compute, processes: int) -> None:
        """Warns where the run goes on in another way than it began, which rounds differently."""
        now = f"{compute}" if processes == 1 else f"{compute}, in {processes} processes"
        if self._compute not in (None, now):
            logger.warning(
                "the run was begun on %s and goes on on %s: rounding may make it differ from an"
                " uninterrupted one",
                self._compute,
                now,
            )
        self._compute = now

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {**self._parts, "compute": self._compute, "changed": self.changed}


def changes(then: Texts, now: Texts) -> list[str]:
    """What differs, in words."""
    return [
        f"{name} was {then.get(name, 'absent')} and is {now.get(name, 'absent')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]


def some_of(changed: Sequence[str]) -> str:
    """The first of some changes, and how many more there are."""
    more = f", and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return f"{', '.join(changed[:_SHOWN])}{more}"


def settings_of(recipe: Recipe) -> Texts:
    """The recipe, key by key."""
    return dict(_flat("", recipe.model_dump(mode="json")))


def files_of(recipe: Recipe, data: SpeechData) -> Texts:
    """What the files hold that a run reads.

    Of the speech: its list, and the samples that are in memory, or the sizes of up to 5000 files,
    evenly spread, if it is decoded on demand. Of recordings that corrupt speech: names and sizes.
    """
    files = {"the list of utterances": list_digest(data.train, data.validation.trials.utterances)}
    samples = data.cache.digest()
    if samples is None:
        files["the sizes of the audio files"] = _sizes_digest(_audio_files(data.train))
    else:
        files["the audio"] = samples[:_DIGITS]
    augment, teacher = recipe.augment, recipe.distillation.teacher
    for name, folder in (("noise", augment.noise), ("reverb", augment.reverb)):
        if folder is not None and augment.probability > 0:
            files[f"the files in augment.{name}"] = _sizes_digest(_recordings(Path(folder)))
    if teacher is not None:
        files["the teacher's weights"] = source_digest(load_artifact(teacher).arrays)[:_DIGITS]
    return files


def list_digest(train: Corpus, validation: Iterable[str] = ()) -> str:
    """How many utterances there are to train on, and a digest of keys, speakers and stretches."""
    listed, digest = train.utterances, hashlib.sha256()
    for column in (listed.keys.content, listed.keys.ends.data, listed.labels.data):
        digest.update(column)
    if listed.spans is not None:
        digest.update(listed.spans.data)
    for names in (listed.speakers, validation):
        digest.update("\0".join(names).encode("utf-8", "surrogateescape") + b"\n")
    speakers = len(train.speakers)
    return f"{len(listed)} of {speakers} speakers ({digest.hexdigest()[:_DIGITS]})"


def _flat(prefix: str, content: Any) -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), value)
    else:
        yield prefix, json.dumps(content)


def _audio_files(corpus: Corpus) -> list[Path]:
    count = len(corpus.utterances)
    stride = -(-count // _MOST_FILES)
    return [corpus.utterances[place].path for place in range(0, count, stride)]


def _recordings(folder: Path) -> list[Path]:
    return sorted(folder / name for name in audio_files(folder))


def _sizes_digest(paths: list[Path]) -> str:
    sizes = in_threads(_size, paths, silent, "")
    named = (f"{path.name}\0{size}" for path, size in zip(paths, sizes, strict=True))
    text = "\n".join(named).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:_DIGITS]


def _size(path: Path) -> int:
    """Bytes of a file; -1 if it cannot be looked at, which opening it will tell about."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
