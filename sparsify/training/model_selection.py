"""Which model of a run is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean

import torch
from torch import nn

from sparsify.audio.features import Features
from sparsify.errors import NotFiniteError
from sparsify.training.validation_speech import ValidationSpeech
from sparsify.verification.evaluate import Evaluation, evaluate_features
from sparsify.verification.trials import Trials

Figures = dict[str, float]


@dataclass
class Best:
    """The selected model: settled, on target, with the lowest validation EER; the latest of equals.

    The EER that decides is the mean over clean and corrupted validation speech: on clean speech
    alone, recording conditions give speakers away, and an unfinished model may look best.

    Attributes:
        step: After which step; 0 if there is none yet.
        figures: Its validation figures.
    """

    step: int = 0
    figures: Figures = field(default_factory=dict)

    def takes(self, step: int, figures: Figures, *, ready: bool) -> bool:
        """Takes a model that is ready and no worse than the selected one; tells whether."""
        if not ready or (self.step and error_rate(figures) > error_rate(self.figures)):
            return False
        self.step, self.figures = step, figures
        return True


def validation_figures(
    network: nn.Module, speech: ValidationSpeech, device: torch.device
) -> Figures:
    """EER in percent and minDCF on the validation trials, clean and, if there is such, corrupted.

    Args:
        network: The embedding network; put into eval mode.
        speech: What is validated on.
        device: Where the network lives.

    Raises:
        NotFiniteError: An embedding is not finite.
    """
    clean = _evaluate(network, speech.features, speech.trials, device)
    figures = {"eer_percent": clean.eer_percent, "min_dcf": clean.min_dcf}
    if speech.corrupted:
        corrupted = _evaluate(network, speech.corrupted, speech.trials, device)
        figures["corrupted_eer_percent"] = corrupted.eer_percent
    return figures


def _evaluate(
    network: nn.Module, features: Sequence[Features], trials: Trials, device: torch.device
) -> Evaluation:
    network.eval()

    def embed(utterance: Features) -> Features:
        feats = torch.from_numpy(utterance).to(device)
        with torch.inference_mode():
            embedding = network(feats[None])[0].float()
        if not embedding.isfinite().all():
            raise NotFiniteError("an embedding of validation speech is not finite")
        return embedding.cpu().numpy()

    return evaluate_features(embed, features, trials)


def error_rate(figures: Figures) -> float:
    """The mean of clean and corrupted EER in percent, by which models are ranked."""
    return mean(value for key, value in figures.items() if key.endswith("eer_percent"))
