"""What a run validates on: speakers held out of training, or a trial list of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sparsify.audio.features import Features, Filterbank
from sparsify.augment.augment import Augmenter
from sparsify.corpus.cache import AudioCache
from sparsify.corpus.corpus import Corpus, split_speakers
from sparsify.errors import SparsifyError
from sparsify.progress import Track
from sparsify.recipe.recipe import Recipe
from sparsify.verification.embedding import Recording, file_recordings, locate
from sparsify.verification.trials import Trials, make_trials, read_trials

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationSpeech:
    """What a run validates on.

    Attributes:
        features: `(T, num_mel_bins)` of each utterance.
        corrupted: The same after a seeded corruption as in training; empty if there is none.
        trials: Over the utterances, by index.
        speakers: How many were held out of training for it.
    """

    features: Sequence[Features]
    corrupted: Sequence[Features]
    trials: Trials
    speakers: int = 0


def split(corpus: Corpus, recipe: Recipe) -> tuple[Corpus, Corpus | None]:
    """What is trained on, and the speakers held out; none are where there is a trial list.

    Raises:
        SparsifyError: Too few speakers would be left.
    """
    if recipe.data.validation_trials is not None:
        return corpus, None
    return split_speakers(corpus, recipe.data.validation_speakers, recipe.seed)


def speech_of_speakers(
    recipe: Recipe, held_out: Corpus, cache: AudioCache, track: Track
) -> ValidationSpeech:
    """Trials among speakers that were held out; utterances that cannot be decoded are left out.

    Raises:
        SparsifyError: Too many cannot, or too few are left for trials.
    """
    recordings = [Recording(u.key, partial(cache.waveform, u)) for u in held_out.utterances]
    features, corrupted, broken = _features(recipe, recordings, track)
    for key, error in broken.items():
        cache.broken.report(key, error)
    intact = [utterance for utterance in held_out.utterances if utterance.key not in broken]
    trials = make_trials([u.key for u in intact], [u.speaker for u in intact], recipe.seed)
    return ValidationSpeech(features, corrupted, trials, len(held_out.speakers))


def listed_trials(recipe: Recipe, train: Corpus) -> tuple[Trials, list[Path]]:
    """The trials of the recipe's list, and the file of each utterance.

    Warns of files that are trained on, too.

    Raises:
        SparsifyError: The list or a file is missing or unusable.
    """
    data = recipe.data
    if data.validation_trials is None or data.validation_root is None:
        raise ValueError("the recipe names no trial list")
    trials = read_trials(data.validation_trials, label=data.trial_label)
    if trials.targets.all() or not trials.targets.any():
        raise SparsifyError(f"'{data.validation_trials}' needs target and nontarget trials")
    paths = locate(trials.utterances, Path(data.validation_root), option="--validation-root")
    files = {path.resolve() for path in paths}
    shared = sum(utterance.path.resolve() in files for utterance in train.utterances)
    if shared:
        logger.warning(
            "%d training utterances are in '%s', too: validation will look better than it is",
            shared,
            data.validation_trials,
        )
    return trials, paths


def speech_of_list(recipe: Recipe, train: Corpus, track: Track) -> ValidationSpeech:
    """The speech of the recipe's trial list.

    Raises:
        SparsifyError: See `listed_trials`; or an utterance cannot be decoded.
    """
    trials, paths = listed_trials(recipe, train)
    recordings = file_recordings(trials.utterances, paths, recipe.front_end.sample_rate)
    features, corrupted, broken = _features(recipe, recordings, track)
    if broken:
        raise next(iter(broken.values()))
    return ValidationSpeech(features, corrupted, trials)


def _features(
    recipe: Recipe, recordings: Sequence[Recording], track: Track
) -> tuple[list[Features], list[Features], dict[str, SparsifyError]]:
    """The features of what can be decoded, these of corrupted speech, and what cannot be."""
    filterbank = Filterbank(recipe.front_end)
    always = recipe.augment.model_copy(update={"probability": 1.0})
    corrupt = Augmenter(always, recipe.front_end.sample_rate)
    clean, corrupted, broken = [], [], {}
    description = "Computing validation features"
    for number, recording in enumerate(track(recordings, description, len(recordings))):
        try:
            waveform = recording.read()
        except SparsifyError as error:
            broken[recording.name] = error
            continue
        if len(waveform) < filterbank.length:
            broken[recording.name] = SparsifyError(f"'{recording.name}' is shorter than one frame")
            continue
        clean.append(filterbank.features(waveform))
        if recipe.augment.probability > 0:
            rng = np.random.default_rng([recipe.seed, number])
            corrupted.append(filterbank.features(corrupt(rng, waveform)))
    return clean, corrupted, broken
