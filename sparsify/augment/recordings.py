"""Folders of recordings that corrupt speech: noise, and impulse responses of rooms."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sparsify.audio.decode import AUDIO_SUFFIXES, UNDECODABLE, Samples
from sparsify.corpus.cache import AudioCache
from sparsify.corpus.utterances import Utterance
from sparsify.errors import SparsifyError


class Recordings:
    """The audio files of a folder and its subfolders, read when they are needed.

    Args:
        folder: Where they are.
        sample_rate: Rate in Hz at which they are wanted.

    Raises:
        SparsifyError: There is no such folder, or no audio in it.
    """

    def __init__(self, folder: str | Path, sample_rate: int) -> None:
        root = Path(folder)
        if not root.is_dir():
            raise SparsifyError(f"'{root}' is not a folder: give one of recordings")
        self._audio = AudioCache(sample_rate, {})
        self._files = [
            Utterance(path.relative_to(root).as_posix(), path.relative_to(root).parts[0], path, 0.0)
            for path in sorted(root.rglob("*"))
            if path.suffix.lower() in AUDIO_SUFFIXES - UNDECODABLE and not path.name.startswith(".")
        ]
        if not self._files:
            raise SparsifyError(f"no audio under '{root}': give a folder of recordings")

    def __len__(self) -> int:
        return len(self._files)

    def piece(self, rng: np.random.Generator, samples: int) -> tuple[str, Samples]:
        """A random piece of a random recording; one that is too short is repeated.

        Returns:
            The name of the subfolder that it is from, and its samples `(samples,)` in [-1, 1].

        Raises:
            SparsifyError: The file cannot be used.
        """
        chosen = self._choose(rng)
        return chosen.speaker, self._audio.crop(chosen, rng.random(), samples)

    def whole(self, rng: np.random.Generator) -> Samples:
        """A random recording, `(samples,)` in [-1, 1].

        Raises:
            SparsifyError: The file cannot be used.
        """
        return self._audio.waveform(self._choose(rng))

    def _choose(self, rng: np.random.Generator) -> Utterance:
        return self._files[rng.integers(len(self._files))]
