"""Two methods on the speakers that their runs held out of training, under the study's conditions.

Run it as `python -m sparsify.benchmarks.held_out --of RUN... --against RUN... --conditions DIR
--output FILE`. A study has few test speakers, but every seed holds out others for validation. They
have chosen which of the last validated models is delivered and nothing else, unless options were
tuned with that seed. DIR has folders of the training speech under conditions, as
`sparsify.benchmarks.unseen_conditions` makes them; clean and corrupted speech come without.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparsify.benchmarks.machine import command_line, describe_machine
from sparsify.corpus.corpus import Corpus
from sparsify.corpus.layouts import load_corpus
from sparsify.defaults import CONFIDENCE_PERCENT
from sparsify.errors import SparsifyError
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.training.run_directory import RunDirectory
from sparsify.training.validation_speech import split
from sparsify.verification.confidence import REPLICATES, paired_interval, resampled_eers
from sparsify.verification.evaluate import trial_embeddings
from sparsify.verification.metrics import eer
from sparsify.verification.scoring import Scoring
from sparsify.verification.trials import make_trials

MEAN = "mean of all"
Rates = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """A run on the speakers that it held out.

    Attributes:
        method: What the run was trained with.
        seed: Its seed, which chose the speakers.
        speakers: These, by number.
        eer_percents: Under each condition, `(C,)`.
        resampled: The same of every sample of speakers, `(C, replicates)`.
    """

    method: str
    seed: int
    speakers: frozenset[int]
    eer_percents: Rates
    resampled: Rates


def verify(
    run: Path, corpus: Corpus, conditions: Mapping[str, Path], times: NDArray[np.int64]
) -> HeldOut:
    """Verifies the speakers that a run held out.

    Args:
        run: Its directory.
        corpus: The speech that it was trained with.
        conditions: The folder of the same speech under each; `noisy` is corrupted here.
        times: How often each speaker of the corpus was drawn, `(replicates, speakers)`.

    Raises:
        SparsifyError: The run held out no speakers, or it or the speech cannot be read.
    """
    recipe = RunDirectory(run).saved_recipe()
    _, held_out = split(corpus, recipe)
    if held_out is None:
        raise SparsifyError(f"'{run}' was validated on a trial list: it held no speakers out")
    root = Path(recipe.data.path)
    utterances = held_out.utterances
    names = [str(utterance.path.relative_to(root).with_suffix("")) for utterance in utterances]
    number = {name: place for place, name in enumerate(corpus.speakers)}
    speakers = np.array([number[utterance.speaker] for utterance in utterances])
    trials = make_trials(names, speakers.tolist(), recipe.seed)
    sides = speakers[trials.enrolment], speakers[trials.test]
    model = load_speaker_model(run, threads=1)
    rates, resampled = [], []
    for condition, folder in conditions.items():
        corruption = 0 if condition == "noisy" else None
        embeddings = trial_embeddings(
            model.embedder, trials, folder, model.front_end, corruption_seed=corruption
        )
        scores = Scoring().scores(embeddings, trials)
        rates.append(eer(scores, trials.targets))
        resampled.append(resampled_eers(scores, trials.targets, *sides, times))
    held = frozenset(speakers.tolist())
    return HeldOut(recipe.method, recipe.seed, held, np.array(rates), np.array(resampled))


def differences(
    one: Sequence[HeldOut], two: Sequence[HeldOut], conditions: Iterable[str]
) -> list[dict[str, Any]]:
    """One method minus the other, in points, under each condition and in the mean of all.

    A replicate draws speakers, the same for every run, and seeds, the same for both methods.

    Args:
        one: Runs of a method.
        two: Runs of the other.
        conditions: Their names.

    Raises:
        SparsifyError: The seeds are not the same.
    """
    if [run.seed for run in one] != [run.seed for run in two]:
        raise SparsifyError("both methods need runs with the same seeds, in the same order")
    gaps = np.array([a.eer_percents - b.eer_percents for a, b in zip(one, two, strict=True)])
    samples = np.array([a.resampled - b.resampled for a, b in zip(one, two, strict=True)])
    seeds, _, replicates = samples.shape
    drawn = np.random.default_rng(0).integers(seeds, size=(seeds, replicates))
    rows = []
    for place, condition in enumerate((*conditions, MEAN)):
        chosen = slice(None) if condition == MEAN else [place]
        by_seed = gaps[:, chosen].mean(axis=1)
        drawn_gaps = np.take_along_axis(samples[:, chosen].mean(axis=1), drawn, axis=0)
        known = ~np.isnan(drawn_gaps)  # a sample may have lost a seed's few speakers, or all seeds'
        counts = known.sum(axis=0)
        means = (np.nansum(drawn_gaps, axis=0) / np.maximum(counts, 1))[counts > 0]
        low, high = paired_interval(means, 0.0, CONFIDENCE_PERCENT)
        figures = {"eer_percent": by_seed.mean(), "low": low, "high": high}
        rows.append(
            {"condition": condition}
            | {key: round(float(value), 3) for key, value in figures.items()}
            | {"by_seed": by_seed.round(3).tolist()}
        )
    return rows


def main() -> None:
    """Parses the command line, tests every run and writes the differences."""
    parser = argparse.ArgumentParser(prog="python -m sparsify.benchmarks.held_out")
    parser.add_argument("--of", type=Path, nargs="+", required=True, help="runs of a method")
    parser.add_argument("--against", type=Path, nargs="+", required=True, help="of the other")
    parser.add_argument("--conditions", type=Path, required=True, help="folder of folders")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    speech = Path(RunDirectory(arguments.of[0]).saved_recipe().data.path)
    corpus = load_corpus(speech)
    conditions = {"clean": speech, "noisy": speech}
    conditions |= {path.name: path for path in sorted(arguments.conditions.iterdir())}
    count = len(corpus.speakers)
    times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=REPLICATES)
    one, two = (
        [verify(run, corpus, conditions, times) for run in runs]
        for runs in (arguments.of, arguments.against)
    )
    gaps = differences(one, two, conditions)
    content = {
        "command": command_line(),
        "machine": asdict(describe_machine()),
        "method": one[0].method,
        "against": two[0].method,
        "speakers": len(frozenset().union(*(run.speakers for run in one))),
        "seeds": [run.seed for run in one],
        "conditions": list(conditions),
        "eer_percent": {
            runs[0].method: [run.eer_percents.round(3).tolist() for run in runs]
            for runs in (one, two)
        },
        "differences": gaps,
    }
    arguments.output.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for row in gaps:
        print("{condition:12} {eer_percent:+.2f} [{low:+.2f}, {high:+.2f}]".format(**row))


if __name__ == "__main__":
    main()
