"""Audio that is decoded when it is needed, and to the last bit as if all of it were in memory."""

from __future__ import annotations

from collections.abc import Mapping

from sparsify.audio.decode import (
    AS_ANNOUNCED,
    MOST_SECONDS,
    Extent,
    measure_audio,
    read_audio,
    read_crop,
)
from sparsify.audio.samples import Samples, crop, from_int16, to_int16
from sparsify.audio.source import AudioSource

_MOST_EXTENTS = 1 << 16  # remembered


class OnDemand:
    """Whole sources and crops of them: 16-bit samples of the decoded, resampled and scaled whole.

    Args:
        sample_rate: Rate of all waveforms in Hz.
        extents: What decoding told of the sources, by their keys, where that is not what their
            headers say; None if nobody has looked.
    """

    def __init__(self, sample_rate: int, extents: Mapping[str, Extent] | None = None) -> None:
        self.sample_rate = sample_rate
        self._extents = extents
        self._found: dict[str, Extent] = {}

    def waveform(self, source: AudioSource) -> Samples:
        """The whole source, `(samples,)` in [-1, 1].

        Raises:
            SparsifyError: It cannot be used.
        """
        return from_int16(to_int16(read_audio(source, self.sample_rate, MOST_SECONDS)))

    def crop(self, key: str, source: AudioSource, position: float, samples: int) -> Samples:
        """A piece of a source; one that is too short is repeated.

        Args:
            key: What the source is called.
            source: Where from.
            position: Which of the possible starts, from 0 (the first) to just under 1 (the last).
            samples: Length of the piece.

        Returns:
            `(samples,)` in [-1, 1].

        Raises:
            SparsifyError: The source cannot be used.
        """

        def measure(source: AudioSource, sample_rate: int) -> Extent | str:
            return self._extent(key, source)

        piece = read_crop(source, position, samples, self.sample_rate, measure)
        if piece is not None:
            return from_int16(to_int16(piece))
        return crop(self.waveform(source), position, samples)

    def _extent(self, key: str, source: AudioSource) -> Extent | str:
        """What is known of a source, or is found out now."""
        if self._extents is not None:
            return self._extents.get(key, AS_ANNOUNCED)
        if key not in self._found:
            extent = measure_audio(source, self.sample_rate)
            if isinstance(extent, str):
                return extent
            if len(self._found) >= _MOST_EXTENTS:
                self._found.clear()
            self._found[key] = extent
        return self._found[key]
