"""How well an embedder verifies speakers, on a trial list."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsify.audio.features import Features
from sparsify.progress import Track, silent
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.embedding import (
    Embedder,
    corrupted,
    embed,
    file_recordings,
    locate,
)
from sparsify.verification.metrics import (
    DetectionCost,
    OperatingPoints,
    checked_trials,
    operating_points,
)
from sparsify.verification.scoring import Scoring
from sparsify.verification.trials import Trials


@dataclass(frozen=True)
class Evaluation:
    """The outcome of a trial list.

    Attributes:
        eer_percent: Equal error rate.
        min_dcf: Minimum normalised detection cost at `p_target`.
        p_target: Prior probability of a target trial.
        trials: Number of trials.
        targets: Number of target trials.
        nontargets: Number of nontarget trials.
        utterances: Number of utterances embedded.
        seconds: Wall-clock time of reading, embedding and scoring.
    """

    eer_percent: float
    min_dcf: float
    p_target: float
    trials: int
    targets: int
    nontargets: int
    utterances: int
    seconds: float


def evaluate(
    embedder: Embedder,
    trials: Trials,
    audio_root: str | Path,
    front_end: FrontEnd,
    *,
    p_target: float = 0.01,
    track: Track = silent,
) -> Evaluation:
    """Evaluates a trial list over audio files with cosine scores.

    Args:
        embedder: From features to an embedding, whatever computes it.
        trials: Whose utterance names are paths relative to `audio_root`.
        audio_root: Folder of the audio.
        front_end: The features the embedder expects.
        p_target: Prior probability of a target trial, for minDCF.
        track: Shows progress.

    Raises:
        SparsifyError: An audio file is missing or unusable, or the trials are all of one kind.
    """
    start = time.perf_counter()
    embeddings = trial_embeddings(embedder, trials, audio_root, front_end, track=track)
    scores = Scoring().scores(embeddings, trials)
    points = operating_points(scores, trials.targets)
    return summarise(points, trials, DetectionCost(p_target), time.perf_counter() - start)


def evaluate_features(
    embedder: Embedder, features: Iterable[Features], trials: Trials, *, p_target: float = 0.01
) -> Evaluation:
    """Evaluates a trial list over features, as validation does during training.

    Args:
        embedder: From features to an embedding, whatever computes it.
        features: `(T, num_mel_bins)` of each of `trials.utterances`, in their order.
        trials: What is compared with what.
        p_target: Prior probability of a target trial, for minDCF.

    Raises:
        SparsifyError: The trials are all of one kind, or an embedding is not finite.
    """
    start = time.perf_counter()
    _check_kinds(trials)
    embeddings = np.stack([embedder(utterance) for utterance in features])
    scores = Scoring().scores(embeddings, trials)
    points = operating_points(scores, trials.targets)
    return summarise(points, trials, DetectionCost(p_target), time.perf_counter() - start)


def trial_embeddings(
    embedder: Embedder,
    trials: Trials,
    audio_root: str | Path,
    front_end: FrontEnd,
    *,
    corruption_seed: int | None = None,
    track: Track = silent,
) -> NDArray[np.float32]:
    """Embeddings `(U, D)` of the utterances of a trial list, each embedded once.

    Args:
        embedder: From features to an embedding, whatever computes it.
        trials: Whose utterance names are paths relative to `audio_root`; extensions may be missing.
        audio_root: Folder of the audio.
        front_end: The features the embedder expects.
        corruption_seed: Corrupt every utterance, on both sides of the trials, with this seed.
        track: Shows progress.

    Raises:
        SparsifyError: An audio file is missing or unusable, or the trials are all of one kind.
    """
    _check_kinds(trials)
    paths = locate(trials.utterances, Path(audio_root))
    recordings = file_recordings(trials.utterances, paths, front_end.sample_rate)
    if corruption_seed is not None:
        recordings = corrupted(recordings, corruption_seed)
    return embed(embedder, recordings, front_end, track=track)


def summarise(
    points: OperatingPoints, trials: Trials, cost: DetectionCost, seconds: float
) -> Evaluation:
    """The outcome in figures.

    Args:
        points: Of the scores of the trials.
        trials: What was compared with what.
        cost: Of minDCF.
        seconds: What it all took.
    """
    targets = int(trials.targets.sum())
    return Evaluation(
        eer_percent=points.eer,
        min_dcf=points.min_dcf(cost),
        p_target=cost.p_target,
        trials=len(trials),
        targets=targets,
        nontargets=len(trials) - targets,
        utterances=len(trials.utterances),
        seconds=seconds,
    )


def _check_kinds(trials: Trials) -> None:
    """Refuses trials that cannot be evaluated now and not after hours of embedding."""
    checked_trials(np.zeros(len(trials)), trials.targets)
