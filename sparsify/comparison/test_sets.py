"""What the models of a comparison are evaluated on."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import field_validator

from sparsify.errors import SparsifyError
from sparsify.recipe.validation import Section
from sparsify.recipe.words import LabelPlace
from sparsify.verification.embedding import locate
from sparsify.verification.trials import (
    Trials,
    read_speakers,
    read_trials,
    speaker_numbers,
)

logger = logging.getLogger(__name__)

VALIDATION = "validation"  # no name of a test set, but of the figures on validation speakers


class TestSet(Section):
    """A trial list that every model is evaluated on.

    Attributes:
        name: Heads its figures in all results.
        trials: The trial list.
        audio_root: Folder that its names start from.
        trial_label: Which field of the list is the label, where that is in doubt.
        speakers: A file of `utterance speaker` lines, if the names do not tell who speaks.
    """

    __test__ = False  # no test case, whatever pytest makes of the name

    name: str
    trials: str
    audio_root: str
    trial_label: LabelPlace | None = None
    speakers: str | None = None

    @field_validator("name")
    @classmethod
    def _is_an_identifier(cls, name: str) -> str:
        """Gates and files are named after it."""
        if not (name.isascii() and name.isidentifier()):
            raise ValueError("give a name of letters, digits and _, a letter first")
        return name

    def check(self) -> None:
        """Refuses what could not be evaluated, and warns where there will be no intervals.

        Raises:
            SparsifyError: The list, an audio file or the list of speakers is missing or unusable.
        """
        root = Path(self.audio_root)
        try:
            trials = self.read()
            if not root.is_dir():
                raise SparsifyError(f"there is no folder '{root}'")
            if not trials.targets.any() or trials.targets.all():
                raise SparsifyError(f"'{self.trials}' needs target and nontarget trials")
            locate(trials.utterances, root)
            if (problem := self.speaker_problem()) is not None:
                if self.speakers is not None:
                    raise SparsifyError(problem)
                logger.warning("test set '%s': no confidence intervals: %s", self.name, problem)
        except SparsifyError as error:
            raise SparsifyError(f"test set '{self.name}': {error}") from error

    def read(self) -> Trials:
        """The trials; raises what `read_trials` does."""
        return read_trials(self.trials, label=self.trial_label)

    def speaker_problem(self) -> str | None:
        """Why it is not known who speaks in the trials, on which confidence intervals rest."""
        known = None if self.speakers is None else read_speakers(self.speakers)
        try:
            speaker_numbers(self.read(), known)
        except SparsifyError as error:
            return str(error)
        return None
