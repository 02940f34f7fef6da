"""How encoded audio becomes samples: whole, or no more of it than a crop needs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from sparsify.audio.listing import undecodable
from sparsify.audio.resampling import HIGHEST_RATE, LOWEST_RATE, Resampler
from sparsify.audio.samples import Samples, crop_start
from sparsify.audio.source import AudioSource, encoded_bytes, open_audio
from sparsify.audio.truncation import SMALLEST_SHARE, ends_early
from sparsify.errors import SparsifyError

logger = logging.getLogger(__name__)

# Encodings in which libsndfile seeks to the very sample.
_SEEKABLE = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
# Those of them that cannot exceed full scale. They are also lossless, so that none may be missing.
_BOUNDED = ("PCM", "ULAW", "ALAW")
_MOST_FRAMES = 2**48  # libsndfile's number for an unknown length is far beyond
_MOST_FRAMES_PER_BYTE = 1 << 13  # FLAC holds 5,000 frames of silence in a byte
MOST_SECONDS = 12 * 3600
_MOST_AT_ONCE = 3600  # seconds that a network is given in one piece
_MOST_VALUES = 1 << 20  # of all channels that are decoded at once; headers may announce anything
_SMALLEST_STEP = 2**-15
_OVERSHOOT = 0.5  # seconds that a segment may end after its recording, as in Kaldi
_UNREADABLE = (sf.SoundFileError, OSError, UnicodeError)


@dataclass(frozen=True)
class Header:
    """What the header of a file says of a source: its duration in seconds, its rate in Hz."""

    seconds: float
    sample_rate: int


@dataclass(frozen=True)
class Extent:
    """What only decoding to the end tells of a source.

    Attributes:
        frames: Its length at the rate of the file.
        samples: Its length at the wanted rate.
        lowest: Its lowest sample at the wanted rate, before scaling.
        highest: Its highest.
        announced: Whether its header told the length.
    """

    frames: int
    samples: int
    lowest: np.float32
    highest: np.float32
    announced: bool = True

    @property
    def as_announced(self) -> bool:
        """Whether the header told the length, and the samples are within full scale."""
        return self.announced and bool(max(-self.lowest, self.highest) <= 1)

    @property
    def silent(self) -> bool:
        """Whether it is digital silence: all samples are equal at 16 bits."""
        return bool(self.highest - self.lowest < _SMALLEST_STEP)

    def scaled(self, samples: Samples) -> Samples:
        """Samples of the source, divided by its peak if that exceeds full scale."""
        peak = max(-self.lowest, self.highest)
        return samples / peak if peak > 1 else samples


_MISSING = "no such file"
# Of a source whose header tells its length, and whose samples are within full scale.
AS_ANNOUNCED = Extent(_MOST_FRAMES, _MOST_FRAMES, np.float32(-1), np.float32(1))


def read_header(source: AudioSource) -> Header | str:
    """Duration and rate without decoding, or in a few words why the source cannot be used."""
    reason = undecodable(source.path)
    if reason:
        return reason
    try:
        with open_audio(source) as file:
            stretch = _stretch(source, file)
            truncated = ends_early(file, source)
            rate = file.samplerate
    except _UNREADABLE as error:
        return _reason(error)
    if isinstance(stretch, str) or truncated:
        return stretch if isinstance(stretch, str) else "truncated"
    return Header(len(stretch) / rate, rate)


def read_audio(
    source: AudioSource | str | Path, sample_rate: int, most_seconds: int = _MOST_AT_ONCE
) -> Samples:
    """Decodes a source of any format libsndfile knows.

    Channels are averaged, another rate is resampled (windowed sinc), and samples beyond full scale
    are brought back by dividing by the peak.

    Args:
        source: A file or what is wanted of it.
        sample_rate: Wanted rate in Hz.
        most_seconds: How long it may be, a multiple of 3600.

    Returns:
        Samples in [-1, 1], `(samples,)`.

    Raises:
        SparsifyError: The file is missing, broken, truncated, empty, not finite, or too long.
    """
    if not isinstance(source, AudioSource):
        source = AudioSource(Path(source))
    decoded = decode_audio(source, sample_rate, most_seconds)
    if isinstance(decoded, str):
        advice = "that the file is an intact wav, flac, ogg, opus or mp3"
        if decoded == _MISSING:
            advice = "the path"
        raise SparsifyError(f"cannot read {source}: {decoded}; check {advice}")
    return decoded


def decode_audio(
    source: AudioSource, sample_rate: int | None, most_seconds: int = MOST_SECONDS
) -> Samples | str:
    """What `read_audio` returns, or in a few words why the source cannot be used.

    Args:
        source: What to decode.
        sample_rate: Wanted rate in Hz; None for that of the file.
        most_seconds: How long it may be, a multiple of 3600.
    """
    found = decode_measured(source, sample_rate, most_seconds)
    return found if isinstance(found, str) else found[0]


def decode_measured(
    source: AudioSource, sample_rate: int | None, most_seconds: int = MOST_SECONDS
) -> tuple[Samples, Extent] | str:
    """What `decode_audio` and `measure_audio` return, of one decoding."""
    pieces: list[Samples] = []
    extent = _decode(source, sample_rate, pieces.append, most_seconds)
    if isinstance(extent, str):
        return extent
    return extent.scaled(np.concatenate(pieces) if len(pieces) > 1 else pieces[0]), extent


def measure_audio(source: AudioSource, sample_rate: int | None) -> Extent | str:
    """What decoding tells of a source, in little memory, or why the source cannot be used."""
    return _decode(source, sample_rate, lambda piece: None)


def read_crop(
    source: AudioSource,
    position: float,
    samples: int,
    sample_rate: int,
    measure: Callable[[AudioSource, int], Extent | str] = measure_audio,
) -> Samples | None:
    """Decodes a piece of a source, and little more where seeking in its format is exact.

    In other formats (mp3, ogg, opus) what lies before the piece is decoded, too, and dropped. The
    piece is to the last bit that of the decoded whole. Its length and its peak have to be known for
    that, which decoding alone tells of floating-point, lossy or resampled sources.

    Args:
        source: Where from.
        position: Which of the possible starts, from 0 (the first) to just under 1 (the last).
        samples: Length of the piece.
        sample_rate: Wanted rate in Hz.
        measure: Tells what decoding tells.

    Returns:
        `(samples,)` in [-1, 1], or None where only decoding the whole can tell more: it is shorter
        than the piece, or broken.
    """
    try:
        with open_audio(source) as file:
            stretch = _stretch(source, file)
            if isinstance(stretch, str):
                return None
            resampler = Resampler(file.samplerate, sample_rate)
            known = resampler.unchanged and _is_bounded(file)
            extent = AS_ANNOUNCED if known else measure(source, sample_rate)
            if isinstance(extent, str):
                return None
            stretch = stretch[: extent.frames]
            start = crop_start(resampler.length(len(stretch)), position, samples)
            if start is None:
                return None
            wanted = range(start, start + samples)
            frames = _Frames(file, stretch)
            decoded = np.concatenate(list(_resampled(frames, resampler, wanted)))
    except _UNREADABLE:
        return None
    piece = decoded[start - next(resampler.blocks(wanted)).start :][:samples]
    if len(frames) != len(stretch) or not np.isfinite(piece).all():
        return None
    return extent.scaled(piece)


def warn_of_silence(silent: Sequence[Path]) -> None:
    """Warns once of all sources whose samples are all equal, whose features are all alike.

    They stay where they are, for what is usable must not change with what is heard; but a network
    learns nothing of a speaker from them, and their embeddings all lie in one place.
    """
    if silent:
        logger.warning(
            "digital silence (all samples equal) in %s: remove %s, for nobody speaks there",
            silent[0] if len(silent) == 1 else f"{len(silent)} utterances, such as {silent[0]}",
            "it" if len(silent) == 1 else "them",
        )


class _Frames:
    """The mean of the channels over a stretch of an open recording, read forwards.

    Its length is that of the stretch until the recording turns out to end before.
    """

    def __init__(self, file: sf.SoundFile, stretch: range) -> None:
        self._file, self._length = file, len(stretch)
        self._offset = stretch.start  # of the stretch in the recording
        self._start = -stretch.start  # of what is held, in the stretch
        self._held: Samples = np.empty(0, dtype=np.float32)
        self._begun = False

    def __len__(self) -> int:
        return self._length

    def read(self, wanted: range) -> Samples:
        """Some frames, which start no earlier than those of the time before."""
        if not self._begun or wanted.start > self._start + len(self._held):
            self._move_to(wanted.start)
        held = self._held[wanted.start - self._start :]
        stop = min(wanted.stop, self._length)
        pieces = [held, *self._decoded(stop - wanted.start - len(held))]
        self._held = np.concatenate(pieces) if len(held) or len(pieces) != 2 else pieces[1]
        self._start = wanted.start
        if wanted.start + len(self._held) < stop:
            self._length = wanted.start + len(self._held)
        return self._held

    def _move_to(self, place: int) -> None:
        # Also to the very start, where some files open at another place than they seek to.
        self._begun = True
        if self._file.subtype.startswith(_SEEKABLE):
            self._file.seek(self._offset + place)
        else:
            for _ in self._decoded(place - self._start - len(self._held)):
                pass
        self._held, self._start = self._held[:0], place

    def _decoded(self, count: int) -> Iterator[Samples]:
        """The next frames, as many as there are."""
        most = max(1, _MOST_VALUES // self._file.channels)
        while count > 0:
            channels = self._file.read(min(count, most), dtype="float32", always_2d=True)
            if not len(channels):
                return
            yield channels.mean(axis=1, dtype=np.float32)
            count -= len(channels)


def _decode(
    source: AudioSource,
    sample_rate: int | None,
    take: Callable[[Samples], None],
    most_seconds: int = MOST_SECONDS,
) -> Extent | str:
    """Hands the resampled source over, piece by piece, and tells what it was."""
    lowest, highest = np.float32(np.inf), np.float32(-np.inf)
    try:
        with open_audio(source) as file:
            stretch = _stretch(source, file, most_seconds)
            if isinstance(stretch, str):
                return stretch
            rate = file.samplerate
            resampler = Resampler(rate, sample_rate or rate)
            frames = _Frames(file, stretch)
            for piece in _resampled(frames, resampler, range(resampler.length(len(stretch)))):
                lowest, highest = np.minimum(lowest, piece.min()), np.maximum(highest, piece.max())
                take(piece)
            share = 1 if _is_bounded(file) else SMALLEST_SHARE
            truncated = len(frames) < share * len(stretch) or ends_early(file, source)
    except _UNREADABLE as error:
        if os.path.isdir(source.path):  # also of a name that is too long
            return "it is a folder"
        return undecodable(source.path) or _reason(error)
    if truncated or not len(frames):
        return "truncated" if truncated else "no samples"
    if not np.isfinite([lowest, highest]).all():
        return "samples that are not finite"
    announced = len(frames) == len(stretch)
    return Extent(len(frames), resampler.length(len(frames)), lowest, highest, announced)


def _resampled(frames: _Frames, resampler: Resampler, wanted: range) -> Iterator[Samples]:
    """The blocks that hold some resampled samples, up to where the recording ends."""
    for block in resampler.blocks(wanted):
        if block.start >= resampler.length(len(frames)):
            return
        inputs = resampler.inputs(block)
        decoded = frames.read(inputs)
        outputs = range(block.start, min(block.stop, resampler.length(len(frames))))
        if outputs:
            yield resampler(decoded, inputs, outputs)


def _stretch(
    source: AudioSource, file: sf.SoundFile, most_seconds: int = MOST_SECONDS
) -> range | str:
    """The frames of the open recording that belong to the source."""
    frames, rate = file.frames, file.samplerate
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        return f"a sample rate of {rate} Hz, which is not in {LOWEST_RATE} to {HIGHEST_RATE} Hz"
    if frames > _MOST_FRAMES:
        return "of unknown length, as written to a pipe: encode it again"
    if frames > _MOST_FRAMES_PER_BYTE * encoded_bytes(source):
        return f"announces {frames} frames, more than its {encoded_bytes(source)} bytes can hold"
    seconds = frames / rate
    if 0 < source.start >= seconds or (source.end or 0) > seconds + _OVERSHOOT:
        return f"outside its recording, which ends at {seconds:.2f} s"
    end = frames if source.end is None else min(frames, round(source.end * rate))
    stretch = range(round(source.start * rate), end)
    if len(stretch) > most_seconds * rate:
        return f"longer than {most_seconds // 3600} h: cut it into utterances"
    return stretch


def _is_bounded(file: sf.SoundFile) -> bool:
    """Whether samples are within full scale, and the header tells how many there are."""
    return file.subtype.startswith(_BOUNDED)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return _MISSING
    reason = str(getattr(error, "error_string", error)).rstrip(".")
    # What libsndfile says of a file that its decoder of mp3 does not know.
    return "no audio that can be decoded" if "not a regular file" in reason else reason
