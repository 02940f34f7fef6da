"""How encoded audio becomes samples: whole, or no more of it than a crop needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from sparsify.errors import SparsifyError
from sparsify.speech._torchaudio import torchaudio_module
from sparsify.speech.source import AudioSource, open_audio
from sparsify.speech.truncation import SMALLEST_SHARE, ends_early

Samples = npt.NDArray[np.float32]

# What libsndfile cannot read is listed, too, so that such files are reported and not overlooked.
UNDECODABLE = frozenset({".m4a", ".aac", ".wma", ".amr", ".mp4"})
AUDIO_SUFFIXES = UNDECODABLE | {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".sph", ".nist", ".voc"),
}
# Encodings in which libsndfile seeks to the very sample.
_SEEKABLE = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
_MOST_FRAMES = 2**48  # libsndfile's number for an unknown length is far beyond
_OVERSHOOT = 0.5  # seconds that a segment may end after its recording, as in Kaldi
_FILTER_WIDTH = 6 / 0.99  # zero crossings of torchaudio's default filter over its roll-off
_UNREADABLE = (sf.SoundFileError, OSError, UnicodeError)


@dataclass(frozen=True)
class Header:
    """What the header of a file says of a source: its duration in seconds, its rate in Hz."""

    seconds: float
    sample_rate: int


def read_header(source: AudioSource) -> Header | str:
    """Duration and rate without decoding, or in a few words why the source cannot be used."""
    reason = undecodable(source.path)
    if reason:
        return reason
    try:
        if not (source.path.stat().st_size if source.size is None else source.size):
            return "empty file"
        with open_audio(source) as file:
            stretch = _stretch(source, file)
            truncated = ends_early(file, source)
            rate = file.samplerate
    except _UNREADABLE as error:
        return _reason(error)
    if isinstance(stretch, str) or truncated:
        return stretch if isinstance(stretch, str) else "truncated"
    return Header(len(stretch) / rate, rate)


def undecodable(path: Path) -> str | None:
    """What to do about a file whose suffix names a format that libsndfile does not decode."""
    suffix = path.suffix.lower()
    if suffix not in UNDECODABLE:
        return None
    return (
        f"libsndfile cannot decode {suffix[1:]}, convert it to wav or flac"
        f" (ffmpeg -i FILE{suffix} -ac 1 -ar 16000 FILE.wav)"
    )


def read_audio(source: AudioSource | str | Path, sample_rate: int) -> Samples:
    """Decodes a source of any format libsndfile knows.

    Channels are averaged, another rate is resampled (windowed sinc), and samples beyond full scale
    are brought back by dividing by the peak.

    Args:
        source: A file or what is wanted of it.
        sample_rate: Wanted rate in Hz.

    Returns:
        Samples in [-1, 1], `(samples,)`.

    Raises:
        SparsifyError: The file is missing, broken, truncated, empty or not finite.
    """
    if not isinstance(source, AudioSource):
        source = AudioSource(Path(source))
    decoded = decode_audio(source, sample_rate)
    if isinstance(decoded, str):
        raise SparsifyError(
            f"cannot read {source}: {decoded}; check the path and that the file is an intact wav,"
            " flac, ogg, opus or mp3"
        )
    return decoded


def decode_audio(source: AudioSource, sample_rate: int | None) -> Samples | str:
    """What `read_audio` returns, or in a few words why the source cannot be used.

    Args:
        source: What to decode.
        sample_rate: Wanted rate in Hz; None for that of the file.
    """
    try:
        if not source.path.is_file():
            return "no such file"
        with open_audio(source) as file:
            stretch = _stretch(source, file)
            if isinstance(stretch, str):
                return stretch
            samples = _read(file, stretch)
            missing = len(samples) < SMALLEST_SHARE * len(stretch)
            truncated = missing or ends_early(file, source)
            rate = file.samplerate
    except _UNREADABLE as error:
        return undecodable(source.path) or _reason(error)
    if truncated or not len(samples):
        return "truncated" if truncated else "no samples"
    if not np.isfinite(samples).all():
        return "samples that are not finite"
    return full_scale(resample(samples, rate, sample_rate or rate))


def read_crop(
    source: AudioSource, position: float, samples: int, sample_rate: int
) -> Samples | None:
    """Decodes a piece of a source and no more, where seeking in its format is exact.

    In other formats (mp3, ogg, opus) what lies before the piece is decoded, too, and dropped. The
    piece is that of the decoded whole; resampling uses the samples around it.

    Args:
        source: Where from.
        position: Which of the possible starts, from 0 (the first) to just under 1 (the last).
        samples: Length of the piece.
        sample_rate: Wanted rate in Hz.

    Returns:
        `(samples,)` in [-1, 1], or None where only decoding the whole can tell more: it is shorter
        than the piece, or broken.
    """
    try:
        with open_audio(source) as file:
            stretch = _stretch(source, file)
            if isinstance(stretch, str):
                return None
            rate = file.samplerate
            old, new = _ratio(rate, sample_rate)
            start = crop_start(-(-len(stretch) * new // old), position, samples)
            if start is None:
                return None
            # Filters of the resampler start at multiples of `old` samples and reach this far.
            reach = 0 if old == new else math.ceil(_FILTER_WIDTH * old / min(old, new)) // old + 2
            first = max(0, start // new - reach)
            last = -(-(start + samples) // new) + reach
            wanted = stretch[first * old : last * old]
            decoded = _read(file, wanted)
    except _UNREADABLE:
        return None
    if len(decoded) != len(wanted) or not np.isfinite(decoded).all():
        return None
    inside = start - first * new
    piece = resample(decoded, rate, sample_rate)[inside : inside + samples]
    return full_scale(piece) if len(piece) == samples else None


def crop_start(available: int, position: float, samples: int) -> int | None:
    """Where a crop begins; None where there is less than a crop.

    Args:
        available: Length of the whole.
        position: Which of the possible starts, in [0, 1).
        samples: Length of the crop.
    """
    return int(position * (available - samples + 1)) if available >= samples else None


def full_scale(samples: Samples) -> Samples:
    """Divides samples that exceed [-1, 1] by their peak."""
    return samples / max(np.float32(1), np.abs(samples).max())


def resample(samples: Samples, rate: int, new_rate: int) -> Samples:
    """Band-limited resampling of `(samples,)` with torchaudio's windowed sinc."""
    if rate == new_rate:
        return samples
    functional = torchaudio_module("functional")
    resampled: Samples = functional.resample(torch.from_numpy(samples), rate, new_rate).numpy()
    return resampled


def _ratio(rate: int, new_rate: int) -> tuple[int, int]:
    divisor = math.gcd(rate, new_rate)
    return rate // divisor, new_rate // divisor


def _stretch(source: AudioSource, file: sf.SoundFile) -> range | str:
    """The frames of the open recording that belong to the source."""
    frames, rate = file.frames, file.samplerate
    if frames > _MOST_FRAMES:
        return "of unknown length, as written to a pipe: encode it again"
    if source.end is None and not source.start:
        return range(frames)
    seconds = frames / rate
    if source.start >= seconds or (source.end or 0) > seconds + _OVERSHOOT:
        return f"outside its recording, which ends at {seconds:.2f} s"
    end = frames if source.end is None else min(frames, round(source.end * rate))
    return range(round(source.start * rate), end)


def _read(file: sf.SoundFile, frames: range) -> Samples:
    """The mean of the channels over some frames; fewer where the file ends before."""
    skipped = frames.start
    if frames.start and file.subtype.startswith(_SEEKABLE):
        skipped -= file.seek(frames.start)
    channels = file.read(skipped + len(frames), dtype="float32", always_2d=True)[skipped:]
    return channels.mean(axis=1, dtype=np.float32)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(getattr(error, "error_string", error)).rstrip(".")
