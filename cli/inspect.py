"""`sparsify inspect`: where a model is sparse, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sparsify.artifact.artifact import Artifact, load_artifact, weights_table
from sparsify.artifact.provenance import COLLAPSED, FEATURES, SAMPLES
from sparsify.cli.display import emit_json, track
from sparsify.cli.gates import decide, verdict_alone
from sparsify.cli.inspect_compare import compare_weights, show_comparison
from sparsify.cli.inspect_display import entropy_of, show_table
from sparsify.cli.inspect_gates import doubt_of, macs_gate, sparsity_gates
from sparsify.cli.sensitivity_display import by_sensitivity, show_sensitivity
from sparsify.exporters.counting import Counted, count_work
from sparsify.files import check_writable, size_bytes, zipped_bytes
from sparsify.report.sensitivity_page import write_sensitivity_report
from sparsify.sparsity.table import LayerSparsity, SparsityTable
from sparsify.verification.sensitivity import model_sensitivity
from sparsify.verification.trials import TrialList

SORTS: dict[str, Callable[[Any], Any]] = {
    "name": lambda layer: layer.name,
    "size": lambda layer: -layer.parameters,
    "sparsity": lambda layer: -layer.sparsity,
}


def run(
    *,
    path: Path,
    min_sparsity: float | None,
    max_sparsity: float | None,
    max_macs: float | None,
    sort: str | None,
    other: Path | None,
    show_all: bool,
    sensitive: bool,
    trial_list: TrialList | None,
    audio_root: Path | None,
    levels: Sequence[float],
    utterances: int,
    report: Path | None,
    trust: bool,
    as_json: bool,
) -> None:
    """What `sparsify inspect` does."""
    if report:
        check_writable(report)
    order = SORTS.get(sort or "")
    artifact = load_artifact(path, trust=trust)
    table = weights_table(artifact)
    layers = sorted(table.layers, key=order) if order else table.layers
    sensitivity = None
    if sensitive:
        sensitivity = model_sensitivity(
            artifact,
            trial_list,
            audio_root,
            levels=levels,
            utterances=utterances,
            track=track,
        )
        if report:
            write_sensitivity_report(sensitivity, path.resolve().stem, report)
    counted = None
    if as_json or not sensitivity or max_macs is not None:
        counted = count_work(artifact)
    comparison = None
    if other:
        comparison = compare_weights(artifact, load_artifact(other), prunable=not show_all)
    gates = [*sparsity_gates(table, min_sparsity, max_sparsity, doubt_of(artifact))]
    if counted and max_macs is not None:
        gates.append(macs_gate(artifact, table, counted, max_macs))
    if as_json and counted:
        content = _as_json(artifact, table, layers, counted)
        content["gates"] = [gate.to_json() for gate in gates]
        content |= {"sensitivity": asdict(sensitivity)} if sensitivity else {}
        emit_json(content | ({"compare": comparison.to_json()} if comparison else {}))
    elif verdict_alone(gates):
        pass
    elif comparison:
        show_comparison(comparison)
    elif sensitivity:
        show_sensitivity(sensitivity, by_sensitivity if sort == "sensitivity" else order)
    elif counted:
        show_table(artifact, table, layers, counted, show_all)
    decide(gates, as_json=as_json)


def _as_json(
    artifact: Artifact,
    table: SparsityTable,
    layers: Iterable[LayerSparsity],
    counted: Counted,
) -> dict[str, Any]:
    deployed = artifact.format.deployed_file(artifact.path)
    return {
        "path": str(artifact.path),
        "format": artifact.format.name,
        "layout": artifact.layout,
        "input": SAMPLES if artifact.takes_samples else FEATURES,
        "collapsed": artifact.metadata.get(COLLAPSED),
        "sparsity": table.sparsity,
        "global_sparsity": table.global_sparsity,
        "parameters": table.parameters,
        "nonzero": table.nonzero,
        **counted.to_json(table.layers),
        "frames": counted.frames,
        "why_no_multiply_adds": counted.why_not,
        "bytes": size_bytes(deployed),
        "zipped_bytes": zipped_bytes(deployed),
        "entropy_bytes": entropy_of(artifact),
        "left_out": list(artifact.left_out),
        "layers": [layer.to_json() | counted.to_json([layer]) for layer in layers],
    }
