"""Trials: an enrolled voice, a test utterance, and whether one speaker spoke both."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from sparsify.documents import MOST_LIST_BYTES, read_text, split_at_blanks
from sparsify.errors import SparsifyError
from sparsify.recipe.words import LabelPlace

_NUMBERS = {"1": True, "0": False}
_WORDS = {"target": True, "nontarget": False}
_FORM = "a trial is '1|0|target|nontarget enrolment test' or 'enrolment test 1|0|target|nontarget'"


@dataclass(frozen=True)
class Trials:
    """A trial list over numbered utterances.

    Attributes:
        utterances: Names of the utterances, each once.
        enrolment: The enrolled voice of each trial, `(N,)`: the index of an utterance, or from
            `len(utterances)` on, of a model.
        test: Index of the test utterance of each trial, `(N,)`.
        targets: Whether both are of the same speaker, `(N,)`.
        models: The utterances that each model was enrolled with, by index.
    """

    utterances: tuple[str, ...]
    enrolment: NDArray[np.int64]
    test: NDArray[np.int64]
    targets: NDArray[np.bool_]
    models: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class TrialList:
    """A file of trials.

    Attributes:
        path: The file.
        label: Which field of its lines tells targets; seen from the whole list if not given.
    """

    path: str | Path
    label: LabelPlace | None = None

    def read(self, enrolment: str | Path | None = None) -> Trials:
        """See `read_trials`."""
        return read_trials(self.path, enrolment, label=self.label)


def read_trials(
    path: str | Path, enrolment: str | Path | None = None, *, label: LabelPlace | None = None
) -> Trials:
    """Reads a trial list, one trial per line: `1|0 enrolment test`, blank lines aside.

    The label may come last (CN-Celeb), and may be `target` or `nontarget` (Kaldi); it is of the
    same form in all lines. Any other field is a name, `0` and `1`, too.

    Args:
        path: The trial list.
        enrolment: Names what the models of the list were enrolled with, one
            `model utterance [utterance …]` per line (CN-Celeb's `enroll.lst`, Kaldi's `spk2utt`);
            lines of one model add up. Without it, the first name of a trial is an utterance.
        label: Where the label is, for a list whose lines could be read in two ways.

    Raises:
        SparsifyError: A file is missing or empty, a line is not a trial or not an enrolment, a
            trial is of a model that was not enrolled, or the list could be read in two ways.
    """
    path = Path(path)
    lines = _text_lines(path, "trial list")
    form = _common_form(path, lines, label)
    index: dict[str, int] = {}
    models = {} if enrolment is None else _read_models(Path(enrolment), index)
    numbers = {name: number for number, name in enumerate(models)}
    table = array("q")  # target, enrolment, test of one trial after the other
    for number, fields in _fields(lines):
        target = form.labels[fields.pop(form.column)]
        first, second = fields
        if models and first not in numbers:
            raise SparsifyError(
                f"{path}:{number}: model '{first}' was not enrolled: name its utterances in"
                f" '{enrolment}'"
            )
        row = numbers[first] if models else index.setdefault(first, len(index))
        table.extend((target, row, index.setdefault(second, len(index))))
    targets, enrolled, tests = np.array(table).reshape(-1, 3).T.copy()
    return Trials(
        utterances=tuple(index),
        enrolment=enrolled + len(index) if models else enrolled,
        test=tests,
        targets=targets.astype(bool),
        models=tuple(map(tuple, models.values())),
    )


def speaker_numbers(
    trials: Trials, speakers: Mapping[str, str] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Who speaks in each trial.

    Args:
        trials: The trial list.
        speakers: The speaker of each utterance; without it, the first folder of its name.

    Returns:
        Number of the speaker enrolled, `(N,)`, and of the test utterance's, `(N,)`.

    Raises:
        SparsifyError: The speaker of an utterance is not known, a model has utterances of several,
            or a trial's label says otherwise.
    """
    hint = "give --speakers a file of 'utterance speaker' lines"
    codes: dict[str, int] = {}
    numbers = []
    for name in trials.utterances:
        speaker = speakers.get(name) if speakers else name.rpartition("/")[0].partition("/")[0]
        if not speaker:
            raise SparsifyError(f"the speaker of utterance '{name}' is not known: {hint}")
        numbers.append(codes.setdefault(speaker, len(codes)))
    for model in trials.models:
        of_model = {numbers[row] for row in model}
        if len(of_model) > 1:
            raise SparsifyError(
                f"a model is enrolled with '{trials.utterances[model[0]]}' and an utterance of"
                f" another speaker: {hint}"
            )
        numbers.append(of_model.pop())
    rows = np.array(numbers, dtype=np.int64)
    enrolled, test = rows[trials.enrolment], rows[trials.test]
    wrong = np.flatnonzero((enrolled == test) != trials.targets)
    if len(wrong):
        kind = "target" if trials.targets[wrong[0]] else "nontarget"
        raise SparsifyError(
            f"{len(wrong)} of {len(trials)} trials contradict the speakers of their utterances,"
            f" the first a {kind} trial of '{trials.utterances[trials.test[wrong[0]]]}': {hint}"
        )
    return enrolled, test


def read_speakers(path: str | Path) -> dict[str, str]:
    """Reads the speaker of each utterance, one `utterance speaker` per line (Kaldi's `utt2spk`).

    Raises:
        SparsifyError: The file is missing or a line has another form.
    """
    speakers: dict[str, str] = {}
    for number, fields in _lines(Path(path), "list of speakers"):
        if len(fields) != 2:
            raise SparsifyError(
                f"{path}:{number}: {len(fields)} fields instead of 2: a line is 'utterance speaker'"
            )
        if speakers.setdefault(*fields) != fields[1]:
            raise SparsifyError(
                f"{path}:{number}: '{fields[0]}' is of '{fields[1]}' here and of"
                f" '{speakers[fields[0]]}' before: leave one of both"
            )
    return speakers


def write_trials(trials: Trials, path: str | Path) -> None:
    """Writes pairs of utterances in the form `read_trials` reads: `1|0 enrolment test`."""
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


def _read_models(path: Path, index: dict[str, int]) -> dict[str, list[int]]:
    """The utterances of each model; numbers those that are not in the index yet."""
    models: dict[str, list[int]] = {}
    for number, (model, *utterances) in _lines(path, "enrolment list"):
        if not utterances:
            raise SparsifyError(
                f"{path}:{number}: model '{model}' without an utterance: a line is"
                " 'model utterance [utterance …]'"
            )
        rows = (index.setdefault(utterance, len(index)) for utterance in utterances)
        models.setdefault(model, []).extend(rows)
    if not models:
        raise SparsifyError(f"enrolment list '{path}' is empty: name the models' utterances")
    return models


def _lines(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line that is not blank, and its number."""
    return _fields(_text_lines(path, content))


def _text_lines(path: Path, content: str) -> list[str]:
    try:
        return read_text(path, MOST_LIST_BYTES, pipes=True).split("\n")
    except FileNotFoundError as error:
        raise SparsifyError(f"no {content} '{path}'") from error
    except OSError as error:
        raise SparsifyError(f"cannot read {content} '{path}': {error.strerror}") from error


def _fields(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, start=1):
        fields = split_at_blanks(line)
        if fields != [""]:
            yield number, fields


@dataclass(frozen=True)
class _Form:
    """Where the lines of a trial list have their label, and what the labels are."""

    place: LabelPlace
    labels: Mapping[str, bool]

    @property
    def column(self) -> int:
        return 0 if self.place == "first" else 2


_FORMS = tuple(
    _Form(place, labels) for labels in (_NUMBERS, _WORDS) for place in get_args(LabelPlace)
)


def _common_form(path: Path, lines: Sequence[str], label: LabelPlace | None) -> _Form:
    """The one form that all trials of a list have."""
    forms = [form for form in _FORMS if label in (None, form.place)]
    number = 0
    for number, fields in _fields(lines):
        if len(fields) != 3:
            raise SparsifyError(f"{path}:{number}: {len(fields)} fields instead of 3: {_FORM}")
        fitting = [form for form in forms if fields[form.column] in form.labels]
        if not fitting:
            raise SparsifyError(f"{path}:{number}: {_no_label(fields, forms)}: {_FORM}")
        forms = fitting
    if not number:
        raise SparsifyError(f"trial list '{path}' is empty: {_FORM}")
    if len(forms) > 1:
        raise SparsifyError(
            f"the lines of '{path}' begin and end with what may be a label or a name: say which of"
            " them is the label with --trial-label first or --trial-label last (in a recipe"
            " data.trial_label)"
        )
    return forms[0]


def _no_label(fields: Sequence[str], forms: Sequence[_Form]) -> str:
    """Why a line has none of the forms that all lines before it had."""
    known = any(fields[form.column] in form.labels for form in _FORMS)
    wanted = " or ".join(f"{'|'.join(form.labels)} {form.place}" for form in forms)
    if not known:
        return "no label 1, 0, target or nontarget"
    return f"the lines before have the label {wanted}, this one has not"
