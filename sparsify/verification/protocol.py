"""An evaluation protocol: models to compare are scored on the same trials in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsify.progress import Track, silent
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.confidence import Confidence, Interval, bootstrap, paired_interval
from sparsify.verification.embedding import Embedder
from sparsify.verification.evaluate import Evaluation, summarise, trial_embeddings
from sparsify.verification.metrics import DetectionCost, OperatingPoints, operating_points
from sparsify.verification.scoring import Scoring
from sparsify.verification.trials import Trials


@dataclass(frozen=True)
class Loss:
    """What a model loses against another on the same trials; what it gains is negative.

    Attributes:
        eer: Its EER minus the other's, in points.
        interval: Of that difference, over speakers drawn anew for both at once.
        percent: Confidence level.
    """

    eer: float
    interval: Interval
    percent: float


@dataclass(frozen=True)
class Outcome:
    """How a model does.

    Attributes:
        scoring: How its embeddings were compared.
        points: Its operating points.
        result: Its figures.
        intervals: Of its error rates, if they were asked for.
    """

    scoring: Scoring
    points: OperatingPoints
    result: Evaluation
    intervals: Confidence | None

    def loss_against(self, other: Outcome) -> Loss:
        """What it loses against another of the same protocol, both with intervals."""
        mine, others = self.intervals, other.intervals
        assert mine is not None
        assert others is not None
        rates, other_rates = mine.resampled_eer_percent, others.resampled_eer_percent
        interval = paired_interval(rates, other_rates, mine.percent)
        loss = self.result.eer_percent - other.result.eer_percent
        return Loss(loss, interval, mine.percent)


@dataclass(frozen=True)
class EvaluationProtocol:
    """What models are evaluated on.

    Attributes:
        trials: Whose utterance names are paths relative to `audio_root`.
        audio_root: Folder of the audio.
        costs: Of minDCF, the first one in the figures.
        corruption_seed: Corrupts every utterance with this seed.
        percent: Level of confidence intervals, if there shall be any.
        sides: For these, the speakers of both sides of each trial (see `speaker_numbers`).
    """

    trials: Trials
    audio_root: Path
    costs: Sequence[DetectionCost] = (DetectionCost(0.01),)
    corruption_seed: int | None = None
    percent: float | None = None
    sides: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def outcome(
        self,
        embedder: Embedder,
        front_end: FrontEnd,
        scoring_of: Callable[[], Scoring] = Scoring,
        *,
        track: Track = silent,
    ) -> Outcome:
        """Evaluates a model.

        Args:
            embedder: From features to an embedding, whatever computes it.
            front_end: The features that it expects.
            scoring_of: How its embeddings are compared; called after they were computed.
            track: Shows progress.

        Raises:
            SparsifyError: An audio file is missing or unusable, the trials are all of one kind, or
                intervals are asked for and there are fewer than two speakers.
        """
        start = time.perf_counter()
        embeddings = trial_embeddings(
            embedder,
            self.trials,
            self.audio_root,
            front_end,
            corruption_seed=self.corruption_seed,
            track=track,
        )
        scoring = scoring_of()
        scores = scoring.scores(embeddings, self.trials, track=track)
        points = operating_points(scores, self.trials.targets)
        result = summarise(points, self.trials, self.costs[0], time.perf_counter() - start)
        intervals = None
        if self.percent is not None and self.sides is not None:
            intervals = bootstrap(
                scores,
                self.trials.targets,
                *self.sides,
                self.costs,
                percent=self.percent,
                track=track,
            )
        return Outcome(scoring, points, result, intervals)
