"""Test speech under conditions that the recipe `speech-mini` does not train for.

Run it as `python -m sparsify.benchmarks.unseen_conditions --test DIR --voices DIR --output DIR`.
Every folder it writes is a test set with the names of the original, for
`sparsify compare --test room=trials.txt:OUTPUT/room`:

- `room`: simulated rooms with a reverberation time of 0.3 to 0.9 s;
- `babble`: five voices talking at once, at 5 to 15 dB;
- `telephone`: a band of 300 to 3400 Hz at 8 kHz, coded with GSM 06.10 (13 kbit/s).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile as sf

from sparsify.audio.decode import AUDIO_SUFFIXES, Samples, read_audio
from sparsify.audio.resampling import resample
from sparsify.augment.augment import limit_peak, mix
from sparsify.augment.corruption import utterance_rng
from sparsify.augment.recordings import Recordings
from sparsify.augment.reverb import reverberate, simulated_room
from sparsify.errors import SparsifyError

RATE, TELEPHONE_RATE = 16_000, 8_000
TELEPHONE_HZ = (300, 3400)
RT60_SECONDS = (0.3, 0.9)
VOICES = 5
SNR_DB = (5.0, 15.0)

Condition = Callable[[np.random.Generator, Samples], Samples]


def room(rng: np.random.Generator, samples: Samples) -> Samples:
    """The utterance in a room of its own, `(samples,)`."""
    response = simulated_room(rng, rng.uniform(*RT60_SECONDS), RATE)
    return limit_peak(reverberate(samples, response))


def babble(voices: Recordings) -> Condition:
    """Adds some voices of equal power; whose they are is drawn for every utterance."""

    def add(rng: np.random.Generator, samples: Samples) -> Samples:
        pieces = [voices.piece(rng, len(samples))[1] for _ in range(VOICES)]
        powers = [max(float(np.square(piece).mean()), 1e-12) for piece in pieces]
        crowd = sum(piece / np.sqrt(power) for piece, power in zip(pieces, powers, strict=True))
        return limit_peak(mix(samples, np.asarray(crowd, np.float32), rng.uniform(*SNR_DB)))

    return add


def telephone(rng: np.random.Generator, samples: Samples) -> Samples:
    """The band of a telephone at its rate, `(samples / 2,)`; nothing in it is random."""
    narrow = resample(samples, RATE, TELEPHONE_RATE)
    spectrum = np.fft.rfft(narrow)
    frequencies = np.fft.rfftfreq(len(narrow), 1 / TELEPHONE_RATE)
    low, high = TELEPHONE_HZ
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    return limit_peak(np.fft.irfft(spectrum, len(narrow)).astype(np.float32))


def write_conditions(test: Path, voices: Path, output: Path) -> None:
    """Writes every utterance under `test` into one folder of `output` per condition.

    Args:
        test: The test speech.
        voices: Speech of other speakers, who babble.
        output: Where the folders are made.

    Raises:
        SparsifyError: There is no audio, or a file cannot be read.
    """
    names = sorted(
        path.relative_to(test) for path in test.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES
    )
    if not names:
        raise SparsifyError(f"no audio under '{test}': give the folder of a test set")
    conditions: dict[str, tuple[Condition, str, int, str]] = {
        "room": (room, ".flac", RATE, "PCM_16"),
        "babble": (babble(Recordings(voices, RATE)), ".flac", RATE, "PCM_16"),
        "telephone": (telephone, ".wav", TELEPHONE_RATE, "GSM610"),
    }
    for name in names:
        samples = read_audio(test / name, RATE)
        for folder, (condition, suffix, rate, encoding) in conditions.items():
            file = (output / folder / name).with_suffix(suffix)
            file.parent.mkdir(parents=True, exist_ok=True)
            changed = condition(utterance_rng(name.as_posix(), 0), samples)
            sf.write(file, changed, rate, encoding)


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sparsify.benchmarks.unseen_conditions",
        description="A test set in a room, among voices and on the telephone.",
    )
    parser.add_argument("--test", type=Path, required=True, help="folder of the test speech")
    parser.add_argument("--voices", type=Path, required=True, help="folder of other speakers")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    write_conditions(arguments.test, arguments.voices, arguments.output)


if __name__ == "__main__":
    main()
