"""Latencies as tables, one for each setting, with a verdict in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sparsify.benchmarks.inference.benchmark import BUSY, Benchmark, Latency
from sparsify.benchmarks.inference.turns import threads_text
from sparsify.cli.display import human_bytes, out, ratio_text, say
from sparsify.cli.tables import Column, fitted


def machine_json(result: Benchmark) -> dict[str, Any]:
    """Where latencies were measured."""
    return asdict(result.machine)


def rows_json(result: Benchmark) -> list[dict[str, Any]]:
    """The rows as JSON has them."""
    return [asdict(row) for row in result.rows]


def show_benchmark(result: Benchmark) -> None:
    """Prints a table for each setting, what they say in words, and the machine."""
    settings: dict[tuple[int, int, int], list[Latency]] = {}
    for row in result.rows:
        settings.setdefault((row.threads, row.batch, row.frames), []).append(row)
    for (threads, batch, frames), rows in settings.items():
        out.print(f"\n{threads_text(threads)}, batch {batch}, {frames} frames", style="bold")
        out.print(_table(rows))
    for sentence in _verdicts(result):
        say(f"\n{sentence}")
    for sentence in result.left_out:
        say(f"\n{sentence}")
    if any(row.varies for row in result.rows):
        say(f"\n{BUSY}")
    machine = result.machine
    engines = {"torch": machine.torch, "onnxruntime": machine.onnxruntime, **machine.engines}
    engines.pop("pytorch", None)
    versions = ", ".join(f"{name} {version}" for name, version in engines.items())
    say(
        f"\n{machine.cpu} ({machine.isa}; {machine.cores} cores), Python {machine.python},"
        f" {versions}. Speed-up: over the baseline, median of paired rounds with"
        " its interval of 95%; level: the interval contains 1."
    )


def _table(rows: Sequence[Latency]) -> Any:
    several = len({row.path for row in rows}) > 1
    model = Column("Model", _names([row.path for row in rows]), left=True, name=True)
    times = (("Median ms", "median_ms", 0), ("90% ms", "p90_ms", 5), ("Min ms", "min_ms", 6))
    return fitted(
        [
            *([model] if several else []),
            Column("Engine", [row.engine for row in rows], left=True),
            Column("Zeros", [_zeros(row) for row in rows]),
            *(
                Column(heading, [f"{getattr(row, key):.2f}" for row in rows], rank=rank)
                for heading, key, rank in times
            ),
            Column("Speed-up", [_speedup(row) for row in rows]),
            Column("95%", [_interval(row) for row in rows], rank=2),
            Column("RTF", [f"{row.rtf:.4f}" for row in rows], rank=7),
            Column("Memory", [human_bytes(row.peak_bytes) for row in rows], rank=4),
            Column("File", [human_bytes(row.bytes) for row in rows], rank=3),
            Column("Zipped", [human_bytes(row.zipped_bytes) for row in rows], rank=8),
        ]
    )


def _names(paths: Sequence[str]) -> list[str]:
    """The last parts of paths, where these tell them apart."""
    names = Counter(Path(path).name for path in set(paths))
    return [path if names[Path(path).name] > 1 else Path(path).name for path in paths]


def _zeros(row: Latency) -> str:
    zeros = f"{row.sparsity:.1%}" if row.sparsity else ""
    return zeros if row.artifact == "sparse" else " ".join(filter(None, [row.artifact, zeros]))


def _speedup(row: Latency) -> str:
    """Nothing that may be noise is shown as a number."""
    if row.baseline:
        return "baseline"
    return "level" if row.level else f"×{ratio_text(row.speedup)}"


def _interval(row: Latency) -> str:
    return "" if row.baseline else f"{ratio_text(row.speedup_low)}–{ratio_text(row.speedup_high)}"


def _verdicts(result: Benchmark) -> list[str]:
    """What the fastest engine of every model gains, in every setting."""
    paths = dict.fromkeys(row.path for row in result.rows)
    return [
        _verdict(row, result.baseline_of(row)) for path in paths for row in result.fastest(path)
    ]


def _verdict(row: Latency, baseline: Latency) -> str:
    setting = f"{threads_text(row.threads)}, batch {row.batch}, {row.frames} frames"
    times = f"{ratio_text(row.speedup_low)} to {ratio_text(row.speedup_high)} times as fast"
    before = ", before it was shrunk," if row.artifact == "shrunk" else ""
    precision = "" if baseline.precision == row.precision else f"{baseline.precision} "
    twin = f"its dense {precision}twin{before} in {baseline.engine}"
    if row.level:
        gain = f"where it is level with {twin}"
    elif row.speedup > 1:
        gain = f"{times} as {twin}"
    else:
        gain = f"slower than {twin}: {times}"
    return f"{row.path}, {setting}: fastest in {row.engine}, {gain}."
