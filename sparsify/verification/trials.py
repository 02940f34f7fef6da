"""Trials: pairs of utterances, and whether one speaker spoke both."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import SparsifyError

_WORDS = {"target": True, "nontarget": False}
_LABELS = {"1": True, "0": False, **_WORDS}
_FORM = "a trial is '1|0 enrolment test' or 'enrolment test target|nontarget'"


@dataclass(frozen=True)
class Trials:
    """A trial list over numbered utterances.

    Attributes:
        utterances: Names of the utterances, each once.
        enrolment: Index of the enrolment utterance of each trial, `(N,)`.
        test: Index of the test utterance of each trial, `(N,)`.
        targets: Whether both are of the same speaker, `(N,)`.
    """

    utterances: tuple[str, ...]
    enrolment: NDArray[np.int64]
    test: NDArray[np.int64]
    targets: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.targets)


def read_trials(path: str | Path) -> Trials:
    """Reads a trial list, one trial per line: `1|0 enrolment test`, blank lines aside.

    `target` and `nontarget` also serve as labels, and may come last (the Kaldi form).

    Raises:
        SparsifyError: The file is missing or empty, or a line is not a trial.
    """
    path = Path(path)
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise SparsifyError(f"no trial list '{path}'") from error
    except UnicodeDecodeError as error:
        raise SparsifyError(f"trial list '{path}' is not UTF-8 text") from error
    index: dict[str, int] = {}
    trials: list[tuple[bool, int, int]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            target, enrolment, test = _parse(line)
        except ValueError as error:
            raise SparsifyError(f"{path}:{number}: {error}: {_FORM}") from error
        first = index.setdefault(enrolment, len(index))
        trials.append((target, first, index.setdefault(test, len(index))))
    if not trials:
        raise SparsifyError(f"trial list '{path}' is empty: {_FORM}")
    table = np.array(trials, dtype=np.int64)
    return Trials(tuple(index), table[:, 1], table[:, 2], table[:, 0].astype(bool))


def write_trials(trials: Trials, path: str | Path) -> None:
    """Writes the form `read_trials` reads: `1|0 enrolment test`."""
    names = trials.utterances
    lines = (
        f"{target:d} {names[enrolment]} {names[test]}\n"
        for target, enrolment, test in zip(
            trials.targets, trials.enrolment, trials.test, strict=True
        )
    )
    Path(path).write_text("".join(lines), "utf-8")


def make_trials(
    utterances: Sequence[str],
    speakers: Sequence[Hashable],
    seed: int,
    *,
    max_targets: int = 20_000,
    nontargets_per_target: int = 6,
) -> Trials:
    """Pairs utterances into trials, the same way for the same seed.

    Target trials are all pairs within a speaker (a random `max_targets` of them when there are
    more); nontarget trials are a random sample of the pairs across speakers.

    Args:
        utterances: Names, one per utterance; the trials' indices follow their order.
        speakers: The speaker of each utterance.
        seed: Of the samples.
        max_targets: Most target trials.
        nontargets_per_target: Nontarget trials per target trial, as far as there are so many.

    Raises:
        SparsifyError: There are fewer than two speakers, or none has two utterances.
    """
    codes = {speaker: code for code, speaker in enumerate(dict.fromkeys(speakers))}
    code_of = np.array([codes[speaker] for speaker in speakers], dtype=np.int64)
    grouped = np.argsort(code_of, kind="stable")
    sizes = np.bincount(code_of, minlength=1)
    if len(codes) < 2 or sizes.max() < 2:
        raise SparsifyError(
            "trials need two speakers, and two utterances of one of them:"
            f" got {len(utterances)} utterances of {len(codes)} speakers"
        )
    # Over the utterances grouped by speaker, position p pairs with the earlier positions of its
    # own group (targets) and with all positions of the groups before (nontargets).
    position = np.arange(len(grouped))
    start = np.repeat(np.cumsum(sizes) - sizes, sizes)
    rng = np.random.default_rng(seed)
    targets = _sample_pairs(rng, start, position - start, max_targets)
    nontargets = _sample_pairs(
        rng, np.zeros_like(start), start, nontargets_per_target * len(targets)
    )
    pairs = grouped[np.concatenate([targets, nontargets])]
    return Trials(
        utterances=tuple(utterances),
        enrolment=pairs[:, 0],
        test=pairs[:, 1],
        targets=np.arange(len(pairs)) < len(targets),
    )


def _sample_pairs(
    rng: np.random.Generator, first: NDArray[np.int64], count: NDArray[np.int64], limit: int
) -> NDArray[np.int64]:
    """Distinct random pairs `(partner, p)`, partners of p being `first[p] … first[p]+count[p]−1`.

    Returns `(min(limit, all), 2)`.
    """
    ends = np.cumsum(count)
    total = int(ends[-1])
    ranks = np.sort(rng.choice(total, size=min(limit, total), replace=False, shuffle=False))
    later = np.searchsorted(ends, ranks, side="right")
    earlier = first[later] + ranks - (ends - count)[later]
    return np.stack([earlier, later], axis=1)


def _parse(line: str) -> tuple[bool, str, str]:
    fields = line.split()
    if len(fields) != 3:
        raise ValueError(f"{len(fields)} fields instead of 3")
    if fields[2] in _WORDS:
        return _WORDS[fields[2]], fields[0], fields[1]
    if fields[0] in _LABELS:
        return _LABELS[fields[0]], fields[1], fields[2]
    raise ValueError("no label 1, 0, target or nontarget")
