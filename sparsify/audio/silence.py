"""Utterances in which nothing is heard: digital silence, whose features are all alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)


def warn_of_silence(silent: Sequence[Path]) -> None:
    """Warns once of all utterances whose samples are all equal.

    They stay where they are, for what is usable must not change with what is heard; but a network
    learns nothing of a speaker from them, and their embeddings all lie in one place.
    """
    if silent:
        logger.warning(
            "digital silence (all samples equal) in %d utterance(s), such as %s: remove them, for"
            " nobody speaks there",
            len(silent),
            silent[0],
        )
