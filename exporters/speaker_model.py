"""A model file, ready to embed utterances.

An `Embedder` maps the features of one utterance `(T, bins)`, or its samples where the file has a
front end of its own, to its embedding `(D,)`, all float32.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.provenance import MEAN, is_ours
from sparsify.documents import parse_json
from sparsify.errors import SparsifyError
from sparsify.exporters.exporter import exporter_of
from sparsify.files import content_digest
from sparsify.recipe.sections import FrontEnd, OwnFrontEnd
from sparsify.recipe.validation import validate
from sparsify.verification.embedding import Embedder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeakerModel:
    """A model file, ready to embed utterances.

    Attributes:
        artifact: What the file holds.
        embedder: From the features of an utterance to its embedding.
        front_end: The features that the embedder expects.
    """

    artifact: Artifact
    embedder: Embedder
    front_end: FrontEnd

    @property
    def digest(self) -> str:
        """Which model this is: equal for a run and its exports; of foreign files, the file's."""
        known = self.artifact.metadata.get("source_digest") if self.artifact.architecture else None
        if known:
            return known
        return content_digest(self.artifact.path)

    @property
    def embedding_mean(self) -> NDArray[np.float64] | None:
        """The mean embedding of the training speech, `(D,)`, if the file carries its own.

        Raises:
            SparsifyError: The file carries something else in its place.
        """
        text = self.artifact.metadata.get(MEAN) if self.artifact.architecture else None
        if text is None:
            return None
        values = parse_json(text, f"{MEAN} of '{self.artifact.path}'")
        if not isinstance(values, list) or not all(type(each) in (int, float) for each in values):
            raise SparsifyError(f"'{self.artifact.path}' has a damaged {MEAN}")
        return np.array(values, dtype=np.float64)


def load_speaker_model(
    path: str | Path, threads: int | None = None, *, trust: bool = False
) -> SpeakerModel:
    """A network from disk with what is known of its features; the file is read once.

    Args:
        path: A run directory or a file of any format; a graph need not be ours.
        threads: Threads per call; the engine's default if not given.
        trust: Whether code that the file names as its network may be imported and run.

    Raises:
        SparsifyError: The file cannot be read, does not embed features, names code and is not
            trusted, or says that it expects features that are not computed here.
    """
    artifact = load_artifact(path, trust=trust)
    front_end = expected_front_end(artifact)
    network = exporter_of(artifact.format).network(artifact, threads)
    return SpeakerModel(artifact, lambda feats: network(feats[None])[0], front_end)


def expected_front_end(artifact: Artifact) -> FrontEnd:
    """The features the model expects, or computes: of foreign files those of sherpa-onnx."""
    own = artifact.takes_samples
    if is_ours(artifact.metadata) or artifact.architecture is not None:
        known = artifact.front_end
        return OwnFrontEnd(**dict(known)) if own else known
    stated = {key: text for key, text in artifact.metadata.items() if key == "sample_rate"}
    kind = OwnFrontEnd if own else FrontEnd
    front_end = validate(kind, stated, f"metadata of '{artifact.path}'")
    for key, ours in (("normalize_samples", "0"), ("feature_normalize_type", "global-mean")):
        if artifact.metadata.get(key, ours) != ours:
            raise SparsifyError(
                f"'{artifact.path}' expects features with {key} '{artifact.metadata[key]}',"
                f" which are not computed here: only '{ours}' is"
            )
    logger.warning(
        "%s does not say %s at %d Hz",
        artifact.path,
        "how its samples are taken: giving it those in [-1, 1]"
        if own
        else "which features it expects: using those of sherpa-onnx",
        front_end.sample_rate,
    )
    return front_end
