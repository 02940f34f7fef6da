"""`sparsify inspect --sensitivity`: the speech it listens to, and its table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from sparsify.artifact.artifact import Artifact
from sparsify.audio.features import Filterbank
from sparsify.cli.display import out, track
from sparsify.corpus.synthetic import synthetic_corpus
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.embedding import (
    Features,
    audio_features,
    file_recordings,
    locate,
)
from sparsify.verification.sensitivity import (
    LayerSensitivity,
    Sensitivity,
    layer_sensitivity,
    sample_trials,
)
from sparsify.verification.trials import Trials, make_trials, read_trials

SPEAKERS, UTTERANCES = 20, 5  # of synthetic speech
SYNTHETIC_SEED = 1000  # other speakers than a training with a small seed has
HARMFUL = (0.5, 2.0)  # points of EER from which a cell is marked


def measure_sensitivity(
    artifact: Artifact,
    trial_list: Path | None,
    audio_root: Path | None,
    levels: Sequence[float],
    utterances: int,
) -> Sensitivity:
    """The sensitivity of a model on a sample of a trial list, or on synthetic speakers."""
    network = artifact.build()
    if trial_list is None or audio_root is None:
        logging.getLogger(__name__).warning(
            "no --trials: measuring with synthetic speakers, which tells little about real ones"
        )
        trials, features = _synthetic(artifact.front_end)
    else:
        trials = sample_trials(read_trials(trial_list), utterances)
        features = _features(trials, audio_root, artifact.front_end)
    return layer_sensitivity(
        network, features, trials, levels=levels, ignore=artifact.ignore, track=track
    )


def show_sensitivity(result: Sensitivity, order: Callable[[LayerSensitivity], Any] | None) -> None:
    """Prints a table: the EER with each layer pruned to each level, the rest left alone."""
    view = Table(box=None, pad_edge=False)
    view.add_column("Pruned alone", no_wrap=True)
    for heading in ("Size", "Sparsity", *(f"EER at {100 * level:g} %" for level in result.levels)):
        view.add_column(heading, justify="right")
    view.add_column("Cosine", justify="right")
    layers = sorted(result.layers, key=order) if order else result.layers
    for layer in layers:
        view.add_row(
            layer.name,
            f"{layer.parameters:,}",
            f"{layer.sparsity:.2%}",
            *(_cell(probe.eer_percent, result.eer_percent) for probe in layer.probes),
            f"{layer.probes[-1].cosine:.4f}",
        )
    out.print(view)
    out.print(
        f"\nEER {result.eer_percent:.2f} % as it is; {result.utterances} utterances,"
        f" {result.trials:,} trials. The cosine is that to the unpruned embeddings, at"
        f" {100 * result.levels[-1]:g} %.",
        markup=False,
        soft_wrap=True,
    )


def by_sensitivity(layer: LayerSensitivity) -> float:
    """Sorts the layer that changes the embeddings most to the top."""
    return layer.probes[-1].cosine


def _cell(eer_percent: float, whole: float) -> Text:
    harm = eer_percent - whole
    style = "red" if harm >= HARMFUL[1] else "yellow" if harm >= HARMFUL[0] else ""
    return Text(f"{eer_percent:.2f}", style=style)


def _features(trials: Trials, root: Path, front_end: FrontEnd) -> list[Features]:
    names = trials.utterances
    recordings = file_recordings(names, locate(names, root), front_end.sample_rate)
    features = []
    for found in audio_features(recordings, front_end, track=track):
        if isinstance(found, SparsifyError):
            raise found
        features.append(found)
    return features


def _synthetic(front_end: FrontEnd) -> tuple[Trials, list[Features]]:
    corpus, cache = synthetic_corpus(
        SPEAKERS, UTTERANCES, seed=SYNTHETIC_SEED, sample_rate=front_end.sample_rate, track=track
    )
    spoken = corpus.utterances
    trials = make_trials([each.key for each in spoken], [each.speaker for each in spoken], 0)
    filterbank = Filterbank(front_end)
    return trials, [filterbank.features(cache.waveform(each)) for each in spoken]
