"""`sparsify report`: of runs and comparisons wherever they were made, or against a baseline."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sparsify.cli.comparison_gates import check_results, gates_json
from sparsify.cli.display import emit_json, say, track
from sparsify.cli.gates import decide, verdict_alone
from sparsify.cli.report_summary import Summary, measure
from sparsify.comparison.gates import Gate
from sparsify.comparison.gathering import Part, gather
from sparsify.comparison.means import gate_metrics
from sparsify.comparison.results import results_json
from sparsify.comparison.text_tables import to_csv, to_markdown
from sparsify.errors import SparsifyError
from sparsify.files import check_writable, write_text
from sparsify.progress import phase
from sparsify.report.page import write_report
from sparsify.verification.trials import TrialList

TEXTS = {".json": results_json, ".csv": to_csv, ".md": to_markdown}


def run(
    *,
    paths: tuple[str, ...],
    output: Path,
    baseline: Path | None,
    trial_list: TrialList | None,
    audio_root: Path | None,
    speakers: Path | None,
    max_eer_loss: float | None,
    measure_latency: bool,
    trust: bool,
    gates: Sequence[Gate],
    as_json: bool,
) -> None:
    """What `sparsify report` does."""
    if baseline and trial_list and audio_root:
        measured = partial(
            measure,
            [baseline, *dict.fromkeys(map(Path, paths))],
            trial_list,
            audio_root,
            speakers,
            latency=measure_latency,
            trust=trust,
        )
        _write_summary(output, measured, max_eer_loss, as_json=as_json)
        return
    if output.suffix not in (".html", *TEXTS):
        raise SparsifyError(
            f"'{output}' tells no format: let --output end in .html, .json, .csv or .md"
        )
    check_writable(output)
    with phase(track, "reading the runs"):
        results = gather([_part(path) for path in paths])
    known = gate_metrics(results["runs"])
    for gate in gates:
        gate.check(known)
    if output.suffix in TEXTS:
        write_text(output, TEXTS[output.suffix](results))
    else:
        with phase(track, "writing the page"):
            write_report(results, output)
    if as_json:
        decided = gates_json(results, gates)
        emit_json({"path": str(output), "runs": len(results["runs"]), "gates": decided})
    elif not verdict_alone(gates):
        say(f"Wrote {output}")
    if gates:
        check_results(results, gates, as_json=as_json)


def _write_summary(
    output: Path,
    measured: Callable[[], Summary],
    max_eer_loss: float | None,
    *,
    as_json: bool,
) -> None:
    """Writes what models have lost and gained, once it is clear that the file can be written."""
    if output.suffix != ".md":
        raise SparsifyError(f"a summary cannot be '{output}': let --output end in .md")
    check_writable(output)
    found = measured()
    write_text(output, found.text())
    gates = found.gates(max_eer_loss)
    if as_json:
        decided = [gate.to_json() for gate in gates]
        emit_json({"path": str(output), **found.to_json(), "gates": decided})
    elif not verdict_alone(gates):
        say(f"Wrote {output}")
    decide(gates, as_json=as_json)


def _part(text: str) -> Part:
    """`NAME=PATH` or a path, which may have an equals sign of its own."""
    named = re.fullmatch(r"([A-Za-z]\w*(?:-\w+)*)=(.+)", text)
    if named is None or Path(text).exists():
        return Part(Path(text))
    return Part(Path(named[2]), named[1])
