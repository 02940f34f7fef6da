"""`sparsify benchmark`: how fast models are, engine by engine, against their dense twins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsify.artifact.loading import load_artifact
from sparsify.benchmarks.inference.benchmark import Benchmark, benchmark
from sparsify.cli.benchmark_display import machine_json, rows_json, show_benchmark
from sparsify.cli.display import emit_json, ratio_text, track
from sparsify.cli.gates import Gate, at_least, decide, verdict_alone


def run(
    *,
    paths: Sequence[Path],
    thread_counts: Sequence[int],
    batches: Sequence[int],
    frames: Sequence[int],
    engines: Sequence[str],
    rounds: int | None,
    min_speedup: float | None,
    trust: bool,
    as_json: bool,
) -> None:
    """What `sparsify benchmark` does."""
    artifacts = [load_artifact(path, trust=trust) for path in dict.fromkeys(paths)]
    result = benchmark(
        artifacts,
        threads=thread_counts,
        batches=batches,
        frames=frames,
        engines=engines,
        rounds=rounds,
        track=track,
    )
    given = [str(artifact.path) for artifact in artifacts]
    gates = [] if min_speedup is None else [_gate(result, given, min_speedup)]
    if as_json:
        emit_json(
            {
                "machine": machine_json(result),
                "rows": rows_json(result),
                "left_out": list(result.left_out),
                "gates": [gate.to_json() for gate in gates],
            }
        )
    elif not verdict_alone(gates):
        show_benchmark(result)
    decide(gates, as_json=as_json)


def _gate(result: Benchmark, given: Sequence[str], threshold: float) -> Gate:
    """Whether every model, in every setting, is as fast as it has to be in its fastest engine."""
    fastest = {path: result.fastest(path) for path in given}
    what = "the speed-up (the low end of its interval)"
    for path, rows in fastest.items():
        if not rows:
            doubt = f"'{path}' was not measured"
            return Gate("min_speedup", threshold, None, False, what, _times, doubt)
    value = min(row.speedup_low for rows in fastest.values() for row in rows)
    return at_least("min_speedup", threshold, value, what, _times)


def _times(speedup: float) -> str:
    return f"×{ratio_text(speedup)}"
