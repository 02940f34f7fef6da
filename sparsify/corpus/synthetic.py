"""Built-in synthetic speakers: source-filter voices, so that everything runs without data.

A voice is a glottal source (pulses and breath noise) through a chain of formant resonators (Fant,
Acoustic Theory of Speech Production, 1960). What it says is a random sequence of vowels, fricatives
and pauses, recorded over a channel of its own per utterance, so that neither the spectrum of one
recording nor the pitch alone tells speakers apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf

from sparsify.audio.samples import Quantised, Samples, to_int16
from sparsify.augment.augment import add_noise, equalise, limit_peak
from sparsify.corpus.cache import AudioCache
from sparsify.corpus.corpus import Corpus
from sparsify.corpus.kept_voices import kept_voice
from sparsify.corpus.utterances import Utterance
from sparsify.progress import Track, silent

Real = npt.NDArray[np.floating]
Complex = npt.NDArray[np.complexfloating]
Kinds = npt.NDArray[np.int64]

# Mean formants in Hz of American English vowels: F1-F3 of men (Peterson & Barney 1952), F4, F5.
_VOWELS = np.array(
    [
        [270, 2290, 3010, 3500, 4500],
        [390, 1990, 2550, 3500, 4500],
        [530, 1840, 2480, 3500, 4500],
        [660, 1720, 2410, 3500, 4500],
        [730, 1090, 2440, 3500, 4500],
        [570, 840, 2410, 3500, 4500],
        [300, 870, 2240, 3500, 4500],
        [640, 1190, 2390, 3500, 4500],
        [490, 1350, 1690, 3500, 4500],
    ],
    dtype=np.float64,
)
_BANDWIDTHS = np.array([60.0, 90.0, 130.0, 180.0, 250.0])
_FRICATIVES = np.array([[2500.0, 900.0], [3800.0, 1200.0], [5500.0, 2000.0]])
_VOWEL, _FRICATIVE, _PAUSE = 0, 1, 2
_FRAMES_PER_SECOND = 100
_FADE_SECONDS = 0.04
_HISS = 0.2
_BLOCKS = 6
_CHANNEL_DB = 2.0
_SNR_DB = (20.0, 40.0)


@dataclass(frozen=True)
class Voice:
    """What stays the same whenever a speaker speaks.

    Attributes:
        pitch: Mean fundamental frequency in Hz.
        pitch_range: Standard deviation of the pitch contour in semitones.
        jitter: Standard deviation of a period, as a share of it.
        tilt: Spectral tilt of the source in dB per octave.
        breathiness: Level of the breath noise relative to the pulses.
        formants: Formant frequencies in Hz of every vowel, `(vowels, 5)`.
        bandwidths: Formant bandwidths in Hz, `(5,)`.
        fricatives: Centre and width in Hz of every fricative, `(fricatives, 2)`.
        pace: Mean duration of a vowel in seconds.
    """

    pitch: float
    pitch_range: float
    jitter: float
    tilt: float
    breathiness: float
    formants: Real
    bandwidths: Real
    fricatives: Real
    pace: float


def draw_voice(rng: np.random.Generator) -> Voice:
    """A random speaker."""
    # Short vocal tracts come with high voices, but only on average.
    size = rng.normal()
    scale = float(np.exp(0.15 * (0.7 * size + 0.7 * rng.normal())))
    return Voice(
        pitch=float(np.clip(150 * np.exp(0.3 * size + 0.15 * rng.normal()), 70, 350)),
        pitch_range=rng.uniform(0.5, 2),
        jitter=rng.uniform(0.002, 0.02),
        tilt=rng.uniform(-14, -2),
        breathiness=10 ** rng.uniform(-1.5, -0.5),
        formants=_VOWELS * scale * np.exp(0.1 * rng.normal(size=_VOWELS.shape)),
        bandwidths=_BANDWIDTHS * rng.uniform(0.7, 1.6, size=_BANDWIDTHS.shape),
        fricatives=_FRICATIVES * scale * np.exp(0.1 * rng.normal(size=_FRICATIVES.shape)),
        pace=rng.uniform(0.1, 0.2),
    )


def speak(voice: Voice, rng: np.random.Generator, seconds: float, sample_rate: int) -> Samples:
    """A random utterance of a voice, before any channel.

    Args:
        voice: Who speaks.
        rng: Decides what is said.
        seconds: Duration.
        sample_rate: In Hz.

    Returns:
        Samples with a peak of at most 0.99, `(samples,)`.
    """
    hop = sample_rate // _FRAMES_PER_SECOND
    frames = round(seconds * _FRAMES_PER_SECOND)
    frequencies = np.arange(_BLOCKS * hop // 2 + 1) * (sample_rate / (_BLOCKS * hop))
    kinds, starts = _segments(voice, rng, seconds)
    voiced, noisy = _filters(voice, rng, kinds, frequencies)
    rise = (np.arange(frames)[:, None] / _FRAMES_PER_SECOND - starts) / _FADE_SECONDS + 0.5
    rise = np.clip(np.concatenate([rise, np.zeros((frames, 1))], axis=1), 0, 1)
    presence = (rise[:, :-1] - rise[:, 1:]).astype(np.float32)
    pulses = _pulses(voice, rng, (frames + 1) * hop, sample_rate)
    noise = rng.standard_normal((frames + 1) * hop, dtype=np.float32)
    spectra = _spectra(pulses, hop) * (presence @ voiced)
    spectra += _spectra(noise, hop) * (presence @ noisy)
    blocks = np.fft.irfft(spectra, _BLOCKS * hop).reshape(frames, _BLOCKS, hop)
    sound = np.zeros((frames + _BLOCKS - 1, hop), dtype=np.float32)
    for block in range(_BLOCKS):
        sound[block : block + frames] += blocks[:, block]
    samples = sound[:frames].ravel()
    return limit_peak(samples / np.abs(samples).max())


def synthetic_corpus(
    speakers: int,
    utterances: int,
    *,
    seed: int,
    sample_rate: int = 16000,
    track: Track = silent,
) -> tuple[Corpus, AudioCache]:
    """Speakers that exist in memory only; another seed gives other speakers.

    Args:
        speakers: How many.
        utterances: How many of each, 2 to 4 s long.
        seed: Determines everything.
        sample_rate: In Hz.
        track: Shows progress.
    """
    listed: list[Utterance] = []
    recordings: dict[str, Quantised] = {}
    spoken = _recordings(speakers, utterances, seed, sample_rate)
    total = speakers * utterances
    for speaker, number, recording in track(spoken, "Synthesising built-in speakers", total):
        key = f"{speaker}/{number:03d}"
        recordings[key] = recording
        listed.append(Utterance(key, speaker, Path(key), len(recording) / sample_rate))
    return Corpus(listed, layout="synthetic"), AudioCache(sample_rate, recordings)


def write_synthetic(
    folder: Path,
    speakers: int,
    utterances: int,
    *,
    seed: int,
    sample_rate: int = 16000,
    track: Track = silent,
) -> Corpus:
    """Writes the speakers of `synthetic_corpus` as `folder/<speaker>/<number>.flac`.

    Returns:
        The corpus of the files written.
    """
    folder = Path(folder)
    listed: list[Utterance] = []
    spoken = _recordings(speakers, utterances, seed, sample_rate)
    total = speakers * utterances
    for speaker, number, recording in track(spoken, "Writing synthetic speakers", total):
        key = f"{speaker}/{number:03d}.flac"
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, recording, sample_rate)
        listed.append(Utterance(key, speaker, path, len(recording) / sample_rate))
    return Corpus(listed)


def _recordings(
    speakers: int, utterances: int, seed: int, sample_rate: int
) -> Iterator[tuple[str, int, Quantised]]:
    """Name of the speaker, number of the utterance and its samples."""
    for speaker in range(speakers):
        make = partial(_spoken, speaker, utterances, seed, sample_rate)
        heard = kept_voice(make, utterances, speaker=speaker, seed=seed, sample_rate=sample_rate)
        for number, recording in enumerate(heard, start=1):
            yield f"voice-{speaker:03d}", number, recording


def _spoken(speaker: int, utterances: int, seed: int, sample_rate: int) -> Iterator[Quantised]:
    """All that a speaker says."""
    voice = draw_voice(np.random.default_rng([seed, speaker, 0]))
    for number in range(1, utterances + 1):
        rng = np.random.default_rng([seed, speaker, number])
        dry = speak(voice, rng, rng.integers(20, 41) / 10, sample_rate)
        heard = equalise(rng, dry, _CHANNEL_DB)
        noisy = add_noise(rng, heard, rng.uniform(*_SNR_DB), _CHANNEL_DB)
        level = np.float32(10 ** rng.uniform(-1, 0))
        yield to_int16(limit_peak(noisy) * level)


def _segments(voice: Voice, rng: np.random.Generator, seconds: float) -> tuple[Kinds, Real]:
    """Kinds and start times of enough segments to fill the duration."""
    count = 2 + int(4 * seconds / voice.pace)
    kinds = np.where(np.arange(count) % 2, _VOWEL, rng.choice([_FRICATIVE, _PAUSE, _VOWEL], count))
    durations = rng.uniform(0.4, 1.6, count) * np.choose(kinds, [voice.pace, 0.08, 0.05])
    starts = np.concatenate([[0.0], np.cumsum(durations[:-1])])
    kept = starts < seconds
    starts[0] = -_FADE_SECONDS
    return kinds[kept], starts[kept]


def _filters(
    voice: Voice, rng: np.random.Generator, kinds: Kinds, frequencies: Real
) -> tuple[Complex, Complex]:
    """Frequency responses of every segment to the pulses and to the noise, `(segments, bins)`."""
    vowels = voice.formants[rng.integers(len(voice.formants), size=len(kinds))]
    resonances = _resonance(frequencies, vowels[..., None], voice.bandwidths[:, None]).prod(axis=1)
    fricatives = voice.fricatives[rng.integers(len(voice.fricatives), size=len(kinds))]
    centre, width = fricatives[:, :1], fricatives[:, 1:]
    hiss = frequencies / centre * _resonance(frequencies, centre, width)
    octaves = np.log2(np.maximum(frequencies, 50) / 50)
    tilt = 10 ** (voice.tilt * octaves / 20)
    is_vowel, is_fricative = (kinds == _VOWEL)[:, None], (kinds == _FRICATIVE)[:, None]
    voiced = is_vowel * _unit_power(resonances * tilt)
    breath = is_vowel * voice.breathiness * _unit_power(resonances * np.sqrt(tilt))
    noisy = breath + is_fricative * _HISS * _unit_power(hiss)
    return voiced.astype(np.complex64), noisy.astype(np.complex64)


def _unit_power(responses: Complex) -> Complex:
    """Scales frequency responses `(segments, bins)` so that vowels do not drown in hiss."""
    return responses / np.sqrt(np.square(np.abs(responses)).mean(axis=1, keepdims=True))


def _resonance(frequencies: Real, centre: Real, bandwidth: Real) -> Complex:
    """Second-order resonator of unit gain at 0 Hz; causal, so that filtering rings and no more."""
    squared = np.square(centre)
    return squared / (squared - np.square(frequencies) + 1j * frequencies * bandwidth)


def _pulses(voice: Voice, rng: np.random.Generator, samples: int, sample_rate: int) -> Samples:
    """Glottal pulses of unit mean power along a smooth random pitch contour, `(samples,)`."""
    knots = rng.normal(0, voice.pitch_range, 2 + 4 * samples // sample_rate)
    semitones = np.interp(
        np.linspace(0, len(knots) - 1, samples), np.arange(len(knots)), knots - knots.mean()
    )
    pitch = voice.pitch * 2 ** (semitones / 12)
    periods = np.floor(np.cumsum(pitch) / sample_rate)
    times = np.flatnonzero(np.diff(periods)).astype(np.float64)
    period = sample_rate / pitch[times.astype(np.int64)]
    times = np.clip(times + period * rng.normal(0, voice.jitter, len(times)), 0, samples - 2)
    whole = times.astype(np.int64)
    late = times - whole
    weights = np.sqrt(period)
    pulses = np.bincount(whole, weights * (1 - late), samples)
    pulses += np.bincount(whole + 1, weights * late, samples)
    return pulses.astype(np.float32)


def _spectra(source: Samples, hop: int) -> Complex:
    """Spectra of Hann-windowed frames, zero-padded for the ringing of the filters."""
    frames = np.lib.stride_tricks.sliding_window_view(source, 2 * hop)[::hop]
    window = np.hanning(2 * hop + 1)[:-1].astype(np.float32)
    return np.fft.rfft(frames * window, _BLOCKS * hop)
