"""How well an embedder verifies speakers: each utterance embedded once, whole, by itself.

Batches of one keep every runtime's numbers comparable: nothing is padded, nothing is cropped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.recipe import FrontEnd
from sparsify.speech.audio import read_audio
from sparsify.speech.features import Filterbank
from sparsify.verification.metrics import eer, min_dcf
from sparsify.verification.scoring import cosine_scores
from sparsify.verification.trials import Trials

Features: TypeAlias = NDArray[np.float32]
Embedder: TypeAlias = Callable[[Features], NDArray[np.float32]]
"""From the features `(T, num_mel_bins)` of an utterance to its embedding `(D,)`."""

_THREADS = 4
_AHEAD = 16  # utterances decoded before the embedder asks for them


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
    """Evaluates a trial list over audio files.

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
    features = audio_features(_locate(trials, Path(audio_root)), front_end)
    tracked = track(features, "Embedding utterances", len(trials.utterances))
    return evaluate_features(embedder, tracked, trials, p_target=p_target)


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
    # Trials that cannot be evaluated are refused now and not after hours of embedding.
    min_dcf(np.zeros(len(trials)), trials.targets, p_target)
    embeddings = np.stack([embedder(utterance) for utterance in features])
    scores = cosine_scores(embeddings, trials.enrolment, trials.test)
    targets = int(trials.targets.sum())
    return Evaluation(
        eer_percent=eer(scores, trials.targets),
        min_dcf=min_dcf(scores, trials.targets, p_target),
        p_target=p_target,
        trials=len(trials),
        targets=targets,
        nontargets=len(trials) - targets,
        utterances=len(embeddings),
        seconds=time.perf_counter() - start,
    )


def audio_features(paths: Iterable[Path], front_end: FrontEnd) -> Iterator[Features]:
    """Features `(T, num_mel_bins)` of each file, computed by threads a few files ahead.

    Raises:
        SparsifyError: A file is missing, unusable or shorter than one frame.
    """
    filterbank = Filterbank(front_end)

    def features_of(path: Path) -> Features:
        samples = read_audio(path, front_end.sample_rate)
        try:
            return filterbank.features(samples)
        except SparsifyError as error:
            raise SparsifyError(f"{path}: {error}") from error

    with ThreadPoolExecutor(_THREADS) as executor:
        pending: deque[Future[Features]] = deque()
        for path in paths:
            pending.append(executor.submit(features_of, path))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _locate(trials: Trials, root: Path) -> Sequence[Path]:
    paths = [root / name for name in trials.utterances]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise SparsifyError(
            f"{len(missing)} of the {len(paths)} utterances in the trials have no file,"
            f" the first is '{missing[0]}': --audio-root must be the folder where the names start"
        )
    return paths
