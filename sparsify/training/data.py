"""The speech of a run: training speakers in memory, validation speakers as features and trials."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsify.audio.features import Features, Filterbank
from sparsify.augment.augment import Augmenter
from sparsify.corpus.cache import AudioCache, load_audio
from sparsify.corpus.corpus import Corpus, Skipped, split_speakers
from sparsify.corpus.layouts import load_corpus
from sparsify.corpus.synthetic import synthetic_corpus
from sparsify.corpus.utterances import Utterance
from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.sections import SYNTHETIC
from sparsify.verification.trials import Trials, make_trials

logger = logging.getLogger(__name__)

_NEARLY_ALL = 0.9


@dataclass(frozen=True)
class SpeechData:
    """What a run trains and validates on.

    Attributes:
        train: Training speakers.
        cache: Audio of all speakers.
        validation: Features `(T, num_mel_bins)` of the validation utterances.
        corrupted: The same after a seeded corruption as in training; empty if there is none.
        trials: Over the validation utterances, by index.
        skipped: Files left out, with reasons.
    """

    train: Corpus
    cache: AudioCache
    validation: Sequence[Features]
    corrupted: Sequence[Features]
    trials: Trials
    skipped: Sequence[Skipped]


def find_corpus(
    recipe: Recipe, *, strict: bool = False, track: Track = silent
) -> tuple[Corpus, AudioCache | None]:
    """Scans or generates the corpus.

    Args:
        recipe: `data`, `front_end` and `seed` are read.
        strict: Raise for the first unusable file instead of leaving it out.
        track: Shows progress.

    Returns:
        The corpus, and its audio if it is generated.

    Raises:
        SparsifyError: The corpus is missing, empty or too small.
    """
    data = recipe.data
    if data.path != SYNTHETIC:
        return load_corpus(data.path, layout=data.layout, strict=strict, track=track), None
    return synthetic_corpus(
        data.synthetic_speakers,
        data.synthetic_utterances,
        seed=recipe.seed,
        sample_rate=recipe.front_end.sample_rate,
        track=track,
    )


def load_data(
    recipe: Recipe, *, strict: bool = False, neighbours: int = 1, track: Track = silent
) -> SpeechData:
    """Scans or generates the corpus, decodes it and splits off the validation speakers.

    Args:
        recipe: `data`, `front_end` and `seed` are read.
        strict: Raise for the first unusable file instead of leaving it out.
        neighbours: Processes on this machine that load the same and share its memory.
        track: Shows progress.

    Raises:
        SparsifyError: The corpus is missing, empty or too small.
    """
    corpus, cache = find_corpus(recipe, strict=strict, track=track)
    if cache is None:
        rate = recipe.front_end.sample_rate
        corpus, cache = load_audio(corpus, rate, strict=strict, neighbours=neighbours, track=track)
    for left_out in corpus.skipped:
        logger.info("skipped %s: %s", left_out.path, left_out.reason)
    train, held_out = split_speakers(corpus, recipe.data.validation_speakers, recipe.seed)
    utterances, validation, corrupted = _validation_features(recipe, held_out, cache, track)
    trials = make_trials(
        [utterance.key for utterance in utterances],
        [utterance.speaker for utterance in utterances],
        recipe.seed,
    )
    return SpeechData(train, cache, validation, corrupted, trials, corpus.skipped)


def warn_of_long_crops(recipe: Recipe, train: Corpus) -> None:
    """Warns of crops that nearly every utterance is repeated to fill."""
    lengths = {}
    if recipe.large_margin_begins > 0:
        lengths["data"] = recipe.data.crop_seconds
    if recipe.large_margin_begins < recipe.training.steps:
        lengths["objective.large_margin"] = recipe.objective.large_margin.crop_seconds
    for section, seconds in lengths.items():
        shorter = float((train.utterances.seconds < seconds).mean())
        if shorter >= _NEARLY_ALL:
            logger.warning(
                "%s.crop_seconds %g s is longer than %.0f %% of the utterances, which are repeated"
                " to fill a crop: lower it",
                section,
                seconds,
                100 * shorter,
            )


def _validation_features(
    recipe: Recipe, held_out: Corpus, cache: AudioCache, track: Track
) -> tuple[list[Utterance], list[Features], list[Features]]:
    """The utterances that can be decoded, their features, and these of corrupted speech."""
    filterbank = Filterbank(recipe.front_end)
    always = recipe.augment.model_copy(update={"probability": 1.0})
    corrupt = Augmenter(always, recipe.front_end.sample_rate)
    intact, clean, corrupted = [], [], []
    listed = held_out.utterances
    for number, utterance in enumerate(track(listed, "Computing validation features", len(listed))):
        try:
            waveform = cache.waveform(utterance)
        except SparsifyError as error:
            cache.broken.report(utterance.key, error)
            continue
        intact.append(utterance)
        clean.append(filterbank.features(waveform))
        if recipe.augment.probability > 0:
            rng = np.random.default_rng([recipe.seed, number])
            corrupted.append(filterbank.features(corrupt(rng, waveform)))
    return intact, clean, corrupted
