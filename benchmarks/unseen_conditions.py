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
from pathlib import Path

import soundfile as sf

from sparsify.audio.decode import read_audio
from sparsify.audio.listing import audio_files
from sparsify.augment.conditions import RATE, TELEPHONE_RATE, Condition, babble, room, telephone
from sparsify.augment.corruption import utterance_rng
from sparsify.augment.recordings import Recordings
from sparsify.errors import SparsifyError


def write_conditions(test: Path, voices: Path, output: Path) -> None:
    """Writes every utterance under `test` into one folder of `output` per condition.

    Args:
        test: The test speech.
        voices: Speech of other speakers, who babble.
        output: Where the folders are made.

    Raises:
        SparsifyError: There is no audio, or a file cannot be read.
    """
    names = sorted(Path(name) for name in audio_files(test))
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
