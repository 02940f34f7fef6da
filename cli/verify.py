"""`sparsify verify`: whether one speaker spoke both of two recordings."""

from __future__ import annotations

import time
from pathlib import Path

from sparsify.cli.display import emit_json, out
from sparsify.cli.gates import at_least, decide, verdict_alone
from sparsify.errors import SparsifyError
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.verification.calibration import (
    CALIBRATION_FILE,
    calibration_of,
    needs_calibration,
    read_calibration,
)
from sparsify.verification.embedding import embed, file_recordings
from sparsify.verification.scoring import Scoring


def run(
    *,
    path: Path,
    enrolment: Path,
    test: Path,
    threshold: float | None,
    calibration: Path | None,
    operating_point: str | None,
    require_match: bool,
    threads: int | None,
    trust: bool,
    as_json: bool,
) -> None:
    """What `sparsify verify` does."""
    model = load_speaker_model(path, threads, trust=trust)
    scoring = Scoring()
    if threshold is None:
        file = calibration_of(model.artifact.path, calibration)
        if file is not None:
            found = read_calibration(file, model.digest)
            scoring, threshold = found.scoring, found.threshold(operating_point or "eer")
    if threshold is None and require_match:
        raise SparsifyError(
            "--require-match needs a threshold: give --threshold or --calibration, or put"
            f" {CALIBRATION_FILE} beside the model"
        )
    if threshold is None and operating_point is not None:
        raise SparsifyError(needs_calibration(operating_point))
    start = time.perf_counter()
    files = (enrolment, test)
    recordings = file_recordings(map(str, files), files, model.front_end.sample_rate)
    embeddings = embed(model.embedder, recordings, model.front_end)
    score = scoring.pair_score(embeddings[0], embeddings[1])
    same = None if threshold is None else score >= threshold
    gates = []
    if require_match and threshold is not None:
        gates = [at_least("require_match", threshold, score, "the score", _shown)]
    if as_json:
        emit_json(
            {
                "path": str(path),
                "enrolment": str(enrolment),
                "test": str(test),
                "score": score,
                "threshold": threshold,
                "same_speaker": same,
                "seconds": time.perf_counter() - start,
                "gates": [gate.to_json() for gate in gates],
            }
        )
    elif not verdict_alone(gates):
        verdict = {
            None: "no threshold to decide by, give --threshold or a calibration",
            True: "same speaker",
        }
        answer = verdict.get(same, "different speakers")
        against = "" if threshold is None else f", threshold {threshold:.4f}"
        out.print(f"{answer} (score {score:.4f}{against})", markup=False)
    decide(gates, as_json=as_json)


def _shown(score: float) -> str:
    return f"{score:.4f}"
