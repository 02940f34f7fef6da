"""The speech of a run: what is trained on in memory, what is validated on as features."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsify.corpus.cache import AudioCache, load_audio
from sparsify.corpus.corpus import UNLABELLED, Corpus, Skipped
from sparsify.corpus.layouts import detect_layout, load_corpus
from sparsify.corpus.synthetic import synthetic_corpus
from sparsify.progress import Track, silent
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.words import SYNTHETIC
from sparsify.training.validation_speech import (
    ValidationSpeech,
    speech_of_list,
    speech_of_speakers,
    split,
)

logger = logging.getLogger(__name__)

_NEARLY_ALL = 0.9


@dataclass(frozen=True)
class SpeechData:
    """What a run trains and validates on.

    Attributes:
        train: Training speakers.
        cache: Audio of these and of speakers held out.
        validation: What the run validates on.
        skipped: Files left out, with reasons.
    """

    train: Corpus
    cache: AudioCache
    validation: ValidationSpeech
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
    data, layout = recipe.data, recipe.data.layout
    if data.path != SYNTHETIC:
        if layout == "auto" and not recipe.needs_speakers:
            layout = detect_layout(Path(data.path))
            layout = UNLABELLED if layout == "folder" else layout
        return load_corpus(data.path, layout=layout, strict=strict, track=track), None
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
    """Scans or generates the corpus, decodes it and finds what to validate on.

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
    train, held_out = split(corpus, recipe)
    if held_out is None:
        validation = speech_of_list(recipe, train, track)
    else:
        validation = speech_of_speakers(recipe, held_out, cache, track)
    return SpeechData(train, cache, validation, corpus.skipped)


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
                "%s.crop_seconds %g s is longer than %.0f%% of the utterances, which are repeated"
                " to fill a crop: lower it",
                section,
                seconds,
                100 * shorter,
            )
