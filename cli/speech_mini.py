"""`sparsify data speech-mini`: the evaluation set that the project's figures are measured on."""

from __future__ import annotations

from pathlib import Path

from sparsify.cli.display import emit_json, out, track
from sparsify.corpus.speech_mini import build


def run(*, source: Path, output: Path, as_json: bool) -> None:
    """What `sparsify speech-mini` does."""
    counts = build(source, output, track=track)
    if as_json:
        emit_json({"output": str(output), "utterances": counts})
    else:
        described = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        out.print(f"Utterances in {output}: {described}", markup=False)
