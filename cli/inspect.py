"""`sparsify inspect`: where a model is sparse, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sparsify.artifact.formats import FEATURES, SAMPLES
from sparsify.cli.display import emit_json, say
from sparsify.cli.gates import decide, verdict_alone
from sparsify.cli.inspect_display import show_table
from sparsify.cli.inspect_gates import macs_gate, sparsity_gates
from sparsify.cli.inspect_model import examine
from sparsify.exporters.accounts import Account
from sparsify.files import check_writable
from sparsify.sparsity.table import LayerSparsity

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
    report: Path | None,
    trust: bool,
    as_json: bool,
    **trials: Any,
) -> None:
    """What `sparsify inspect` does."""
    if report:
        check_writable(report)
    examined = examine(path, other, show_all, trials if sensitive else None, report, trust)
    account = examined.account
    order = SORTS.get(sort or "")
    layers = sorted(account.table.layers, key=order) if order else account.table.layers
    gates = [*sparsity_gates(account, min_sparsity, max_sparsity)]
    if max_macs is not None:
        gates.append(macs_gate(account, max_macs))
    if as_json:
        content = _as_json(account, layers)
        content["gates"] = [gate.to_json() for gate in gates]
        emit_json(content | examined.to_json())
    elif not verdict_alone(gates) and not examined.show(sort, order):
        show_table(account, layers, show_all)
    if report and not as_json:
        say(f"Wrote {report}")
    decide(gates, as_json=as_json)


def _as_json(account: Account, layers: Iterable[LayerSparsity]) -> dict[str, Any]:
    table, counted = account.table, account.counted
    return {
        "path": str(account.path),
        "format": account.format.name,
        "layout": account.layout,
        "input": SAMPLES if account.takes_samples else FEATURES,
        "collapsed": account.collapsed,
        "sparsity": table.sparsity,
        "global_sparsity": table.global_sparsity,
        "parameters": table.parameters,
        "nonzero": table.nonzero,
        **counted.to_json(table.layers),
        "frames": counted.frames,
        "why_no_multiply_adds": counted.why_not,
        "bytes": account.bytes,
        "zipped_bytes": account.zipped_bytes,
        "entropy_bytes": account.entropy_bytes,
        "left_out": list(account.left_out),
        "layers": [layer.to_json() | counted.to_json([layer]) for layer in layers],
    }
