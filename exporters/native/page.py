"""What is served to browsers: the page, the loader of the model, and what they say of it."""

from __future__ import annotations

import base64
import hashlib
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.documents import to_json
from sparsify.errors import SparsifyError
from sparsify.exporters.native.engine import source_folder
from sparsify.exporters.native.library import BLOB
from sparsify.exporters.native.targets import MODULE, WEB
from sparsify.verification.decision import Decision

FACTS = "model.json"


def write_page(folder: Path, artifact: Artifact, digest: str, decision: Decision | None) -> None:
    """Adds what is served to the compiled code and the blob in a folder.

    Args:
        folder: Of the export.
        artifact: The model.
        digest: Which model it is.
        decision: How the page decides; it shows cosines if not given.

    Raises:
        SparsifyError: The decision is for embeddings of another dimension.
        OSError: Something cannot be written.
    """
    site = folder / WEB
    shutil.copytree(source_folder().parent / WEB, site, dirs_exist_ok=True)
    shutil.copyfile(folder / BLOB, site / BLOB)
    blob = (site / BLOB).read_bytes()
    dimension = int(np.frombuffer(blob, np.int32, 4)[3])
    if decision and decision.mean and len(decision.mean) != dimension:
        raise SparsifyError(
            f"the mean to subtract has {len(decision.mean)} dimensions and the embeddings"
            f" {dimension}: calibrate the model again"
        )
    served = [each for each in (site / BLOB, folder / MODULE) if each.is_file()]
    table = weights_table(artifact)
    facts = {
        "architecture": artifact.architecture.name if artifact.architecture else "",
        "method": artifact.recipe.method if artifact.recipe else None,
        "parameters": table.parameters,
        "nonzero": table.nonzero,
        "sparsity": table.sparsity,
        "precision": artifact.precision,
        "bytes": sum(each.stat().st_size for each in served),
        "embedding_dim": dimension,
        "sample_rate": artifact.front_end.sample_rate,
        "digest": digest,
        "integrity": f"sha256-{base64.b64encode(hashlib.sha256(blob).digest()).decode()}",
        "made_by": f"sparsify {version('sparsify-speaker')}",
        "decision": None if decision is None else asdict(decision),
    }
    (site / FACTS).write_text(to_json(facts, indent=2) + "\n", "utf-8")
