"""What an export does to the error rate, on a trial list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsify.artifact.artifact import Artifact
from sparsify.defaults import CONFIDENCE_PERCENT
from sparsify.errors import SparsifyError
from sparsify.exporters.exporter import Exporter
from sparsify.exporters.networks import Network, torch_network
from sparsify.exporters.speaker_model import expected_front_end
from sparsify.progress import Track, silent
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.evaluate import Evaluation
from sparsify.verification.metrics import DetectionCost
from sparsify.verification.protocol import EvaluationProtocol, Loss, Outcome
from sparsify.verification.trials import TrialList, speaker_numbers

_COSTS: Sequence[DetectionCost] = (DetectionCost(0.01),)


@dataclass(frozen=True)
class Accuracy:
    """Error rates of a model and of its export, on the same trials.

    Attributes:
        before: Of the model, in PyTorch.
        after: Of the export, in the engine of its format.
        loss: What the export loses, with an interval over speakers.
    """

    before: Evaluation
    after: Evaluation
    loss: Loss


def accuracy_protocol(trial_list: TrialList, audio_root: Path) -> EvaluationProtocol:
    """How exports are evaluated: cosine scores, as `sparsify evaluate` has them by default.

    Raises:
        SparsifyError: The list cannot be read.
    """
    trials = trial_list.read()
    return EvaluationProtocol(
        trials, audio_root, _COSTS, percent=CONFIDENCE_PERCENT, sides=speaker_numbers(trials)
    )


def measure_accuracy(
    original: Artifact,
    written: Artifact,
    exporter: Exporter,
    protocol: EvaluationProtocol,
    track: Track = silent,
) -> Accuracy:
    """Evaluates an export and the model that it was made from.

    Args:
        original: The model.
        written: What was read from the export.
        exporter: Runs it.
        protocol: On what; with intervals.
        track: Shows progress.

    Raises:
        SparsifyError: The export does not run here, or audio is missing or unusable.
    """
    if obstacle := exporter.obstacle(written):
        raise SparsifyError(f"--trials: the export cannot be evaluated here, since {obstacle}")

    def outcome(network: Network, front_end: FrontEnd) -> Outcome:
        return protocol.outcome(lambda feats: network(feats[None])[0], front_end, track=track)

    before = outcome(torch_network(original.build()), original.front_end)
    after = outcome(exporter.network(written), expected_front_end(written))
    return Accuracy(before.result, after.result, after.loss_against(before))
