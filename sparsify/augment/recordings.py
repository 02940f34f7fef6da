"""Folders of recordings that corrupt speech: noise, and impulse responses of rooms."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sparsify.audio.listing import UNDECODABLE, audio_files
from sparsify.audio.on_demand import OnDemand
from sparsify.audio.samples import Samples
from sparsify.audio.source import AudioSource
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
        self._audio = OnDemand(sample_rate)
        names = sorted(Path(name) for name in audio_files(root))
        self._names = [name for name in names if name.suffix.lower() not in UNDECODABLE]
        self._root = root
        if not self._names:
            raise SparsifyError(f"no audio under '{root}': give a folder of recordings")

    def __len__(self) -> int:
        return len(self._names)

    def piece(self, rng: np.random.Generator, samples: int) -> tuple[str, Samples]:
        """A random piece of a random recording; one that is too short is repeated.

        Returns:
            The name of the subfolder that it is from, and its samples `(samples,)` in [-1, 1].

        Raises:
            SparsifyError: The file cannot be used.
        """
        name = self._choose(rng)
        piece = self._audio.crop(str(name), self._source(name), rng.random(), samples)
        return name.parts[0], piece

    def whole(self, rng: np.random.Generator) -> Samples:
        """A random recording, `(samples,)` in [-1, 1].

        Raises:
            SparsifyError: The file cannot be used.
        """
        return self._audio.waveform(self._source(self._choose(rng)))

    def _choose(self, rng: np.random.Generator) -> Path:
        return self._names[rng.integers(len(self._names))]

    def _source(self, name: Path) -> AudioSource:
        return AudioSource(self._root / name)
