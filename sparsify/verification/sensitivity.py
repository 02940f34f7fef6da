"""How much each layer matters: prune it alone, and see what becomes of the embeddings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsify.artifact.artifact import Artifact
from sparsify.audio.features import Features, Filterbank
from sparsify.corpus.synthetic import synthetic_corpus
from sparsify.defaults import SENSITIVITY_LEVELS
from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.recipe.sections import FrontEnd
from sparsify.sparsity.masks import largest_masks
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.selection import EVERYTHING, Selection
from sparsify.verification.embedding import audio_features, file_recordings, locate
from sparsify.verification.evaluate import evaluate_features
from sparsify.verification.trials import TrialList, Trials, make_trials

logger = logging.getLogger(__name__)

_SPEAKERS, _UTTERANCES = 20, 5  # of synthetic speech
_SYNTHETIC_SEED = 1000  # other speakers than a training with a small seed has


@dataclass(frozen=True)
class Probe:
    """The network with one layer pruned.

    Attributes:
        sparsity: Of this layer; what it had before, if that is more than was asked for.
        eer_percent: Equal error rate.
        cosine: Mean cosine similarity of the embeddings to those of the unpruned network.
    """

    sparsity: float
    eer_percent: float
    cosine: float


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer and what pruning it does.

    Attributes:
        name: Parameter name.
        parameters: Number of weights.
        sparsity: Share of them that is zero already.
        probes: One per level.
    """

    name: str
    parameters: int
    sparsity: float
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class Sensitivity:
    """The sensitivity of a network, layer by layer.

    Attributes:
        eer_percent: Of the network as it is.
        levels: Sparsities that every layer was pruned to.
        utterances: Number of utterances embedded each time.
        trials: Number of trials.
        layers: In the order of the network.
    """

    eer_percent: float
    levels: tuple[float, ...]
    utterances: int
    trials: int
    layers: tuple[LayerSensitivity, ...]


def model_sensitivity(
    artifact: Artifact,
    trial_list: TrialList | None = None,
    audio_root: Path | None = None,
    *,
    levels: Sequence[float] = SENSITIVITY_LEVELS,
    utterances: int = 200,
    track: Track = silent,
) -> Sensitivity:
    """The sensitivity of a model on a sample of a trial list, or on synthetic speakers.

    Args:
        artifact: The model.
        trial_list: Synthetic speakers if there is none.
        audio_root: Folder that its names start from.
        levels: Sparsities, in (0, 1).
        utterances: How many of the trial list are embedded.
        track: Shows progress.

    Raises:
        SparsifyError: See `layer_sensitivity`; or the network cannot be built, or the trial list or
            its audio cannot be read.
    """
    network = artifact.build()
    if trial_list is None or audio_root is None:
        logger.warning(
            "no --trials: measuring with synthetic speakers, which tells little about real ones"
        )
        trials, features = _synthetic(artifact.front_end, track)
    else:
        trials = sample_trials(trial_list.read(), utterances)
        features = _features(trials, audio_root, artifact.front_end, track)
    return layer_sensitivity(
        network, features, trials, levels=levels, selection=artifact.selection, track=track
    )


def layer_sensitivity(
    network: nn.Module,
    features: Sequence[Features],
    trials: Trials,
    *,
    levels: Sequence[float] = SENSITIVITY_LEVELS,
    selection: Selection = EVERYTHING,
    track: Track = silent,
) -> Sensitivity:
    """Prunes every prunable layer alone, by magnitude, without any training after it.

    This one-at-a-time analysis (Han et al. 2015, arXiv 1506.02626, figure 6) tells which layers a
    network can spare; what all of them lose together it does not tell. A layer that is sparser
    already than a level is left as it is there.

    Args:
        network: On the CPU; its weights are the same afterwards.
        features: `(T, num_mel_bins)` of each of `trials.utterances`, in their order.
        trials: What the error rates are of.
        levels: Sparsities, in (0, 1).
        selection: What may become sparse.
        track: Shows progress.

    Raises:
        SparsifyError: A level is out of range, the trials are all of one kind, or an embedding is
            not finite.
    """
    for level in levels:
        if not 0 < level < 1:
            raise SparsifyError(f"a level of sparsity must lie between 0 and 1, got {level:g}")
    network.eval()
    whole, reference = _measure(network, features, trials)
    weights = prunable_parameters(network, *selection)
    probes: dict[str, list[Probe]] = {name: [] for name in weights}
    work = [(name, level) for name in weights for level in levels]
    for name, level in track(work, "Pruning layers one at a time", len(work)):
        weight = weights[name]
        sparsity = _sparsity(weight)
        if sparsity >= level:
            probes[name].append(Probe(sparsity, whole, 1.0))
            continue
        with _pruned(weight, level):
            eer_percent, embeddings = _measure(network, features, trials)
            probes[name].append(
                Probe(_sparsity(weight), eer_percent, _similarity(embeddings, reference))
            )
    layers = tuple(
        LayerSensitivity(name, weight.numel(), _sparsity(weight), tuple(probes[name]))
        for name, weight in weights.items()
    )
    return Sensitivity(whole, tuple(levels), len(features), len(trials), layers)


def sample_trials(trials: Trials, utterances: int, seed: int = 0) -> Trials:
    """The trials among some of the utterances, which are those of trials drawn at random.

    Of a long list, hardly two utterances drawn at random would share a trial; so trials are drawn,
    target and nontarget ones in turn, for as long as their utterances are no more than asked for.

    Args:
        trials: A trial list.
        utterances: How many there may be, two at least; with fewer the list stays as it is.
        seed: Of the draw.
    """
    count = len(trials.utterances)
    if count <= utterances:
        return trials
    order = np.random.default_rng(seed).permutation(len(trials))
    kinds = [order[trials.targets[order] == kind] for kind in (True, False)]
    used: set[int] = set()
    for drawn in chain.from_iterable(zip_longest(*kinds)):
        if drawn is None:
            continue
        both = used | {int(trials.enrolment[drawn]), int(trials.test[drawn])}
        if len(both) > utterances:
            break
        used = both
    chosen = np.array(sorted(used))
    number = np.full(count, -1)
    number[chosen] = np.arange(len(chosen))
    kept = (number[trials.enrolment] >= 0) & (number[trials.test] >= 0)
    return Trials(
        tuple(trials.utterances[index] for index in chosen),
        number[trials.enrolment[kept]],
        number[trials.test[kept]],
        trials.targets[kept],
    )


def _measure(
    network: nn.Module, features: Sequence[Features], trials: Trials
) -> tuple[float, NDArray[np.float32]]:
    """EER and embeddings `(U, D)`, each utterance whole and by itself as in `evaluate`."""
    embeddings: list[NDArray[np.float32]] = []

    def embed(feats: Features) -> NDArray[np.float32]:
        with torch.inference_mode():
            embeddings.append(network(torch.from_numpy(feats[None]))[0].numpy())
        return embeddings[-1]

    result = evaluate_features(embed, features, trials)
    return result.eer_percent, np.stack(embeddings)


@contextmanager
def _pruned(weight: Tensor, level: float) -> Iterator[None]:
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(largest_masks([weight.abs()], level)[0])
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(before)


def _sparsity(weight: Tensor) -> float:
    return int((weight.detach() == 0).sum()) / weight.numel()


def _similarity(ours: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    one, other = ours.astype(np.float64), reference.astype(np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.mean((one * other).sum(axis=1) / np.where(norms == 0, 1, norms)))


def _features(trials: Trials, root: Path, front_end: FrontEnd, track: Track) -> list[Features]:
    names = trials.utterances
    recordings = file_recordings(names, locate(names, root), front_end.sample_rate)
    features = []
    for found in audio_features(recordings, front_end, track=track):
        if isinstance(found, SparsifyError):
            raise found
        features.append(found)
    return features


def _synthetic(front_end: FrontEnd, track: Track) -> tuple[Trials, list[Features]]:
    corpus, cache = synthetic_corpus(
        _SPEAKERS, _UTTERANCES, seed=_SYNTHETIC_SEED, sample_rate=front_end.sample_rate, track=track
    )
    spoken = corpus.utterances
    trials = make_trials([each.key for each in spoken], [each.speaker for each in spoken], 0)
    filterbank = Filterbank(front_end)
    return trials, [filterbank.features(cache.waveform(each)) for each in spoken]
