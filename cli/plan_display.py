"""What `sparsify plan` has measured, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from sparsify.benchmarks.inference.benchmark import BUSY
from sparsify.benchmarks.inference.budget import MAX_BYTES, MAX_MACS, MAX_MS, Budget, Fit
from sparsify.cli.display import human_bytes, out, ratio_text, say, styled
from sparsify.cli.gates import Gate, at_most
from sparsify.cli.tables import Column, fitted

_CONSTANT = 0.9  # of the dense file, from which on the size of a file does not fall
_FASTER = 1.2  # times as fast as without zeros
_WHAT = {MAX_MS: "the time", MAX_BYTES: "the size", MAX_MACS: "the work"}
_NAMES = {MAX_MS: "--max-ms", MAX_BYTES: "--max-bytes", MAX_MACS: "--max-macs"}


def gates_of(budget: Budget, limits: Mapping[str, float]) -> list[Gate]:
    """How the answer stands to every limit; where there is none, the sparsest mask."""
    best = budget.best
    zeros = f"at {best.sparsity:.1%} zeros"
    return [
        at_most(name, most, best.value(name), f"{zeros} {_WHAT[name]}", partial(_amount, name))
        for name, most in limits.items()
    ]


def plan_json(
    model: str, format_name: str, budget: Budget, limits: Mapping[str, float], command: str | None
) -> dict[str, Any]:
    """The plan as JSON has it."""
    return {
        "model": model,
        "format": format_name,
        "sparsity": None if budget.answer is None else budget.answer.sparsity,
        "machine": asdict(budget.machine),
        "rows": [asdict(each.latency) | {"macs": each.macs} for each in budget.fits],
        "notes": _notes(format_name, budget, by_macs=MAX_MACS in limits),
        "command": command,
        "gates": [gate.to_json() for gate in gates_of(budget, limits)],
    }


def show_plan(
    model: str, format_name: str, budget: Budget, limits: Mapping[str, float], command: str | None
) -> None:
    """Prints the masks, which of them fits, and how to train it."""
    rows = budget.fits
    first = rows[0].latency
    out.print(
        f"\n{model} as {format_name}, {first.threads} thread{'s' if first.threads > 1 else ''},"
        f" {first.frames} frames",
        style="bold",
        markup=False,
    )
    out.print(
        fitted(
            [
                Column("Zeros", [_zeros(each) for each in rows]),
                Column("Median ms", [f"{each.latency.median_ms:.2f}" for each in rows]),
                Column("90% ms", [f"{each.latency.p90_ms:.2f}" for each in rows], rank=3),
                Column("Speed-up", [_speedup(each) for each in rows], rank=2),
                Column("File", [human_bytes(each.latency.bytes) for each in rows]),
                Column("Zipped", [human_bytes(each.latency.zipped_bytes) for each in rows], rank=1),
                Column("MACs left", [_macs(each) for each in rows], rank=4),
                Column("Memory", [human_bytes(each.latency.peak_bytes) for each in rows], rank=5),
                Column("Fits", ["yes" if each.fits(limits) else "no" for each in rows]),
            ]
        )
    )
    for sentence in (
        _verdict(budget, limits),
        *_notes(format_name, budget, by_macs=MAX_MACS in limits),
    ):
        say(f"\n{sentence}")
    machine = budget.machine
    say(f"\n{machine.cpu} ({machine.isa}; {machine.cores} cores). Speed-up: over no zeros.")
    if command:
        out.print(styled(f"\nNext: {command}"), soft_wrap=True)  # one line, to be copied


def _verdict(budget: Budget, limits: Mapping[str, float]) -> str:
    asked = " and ".join(f"{_NAMES[name]} {_amount(name, most)}" for name, most in limits.items())
    if budget.answer is None:
        best = budget.best
        return (
            f"No sparsity fits {asked}: with {best.sparsity:.1%} zeros it is"
            f" {_figures(best, limits)}."
        )
    if not budget.answer.sparsity:
        return f"The dense network fits {asked} as it is: {_figures(budget.answer, limits)}."
    return (
        f"{_zeros(budget.answer)} zeros fit {asked}, as measured:"
        f" {_figures(budget.answer, limits)}."
    )


def _notes(format_name: str, budget: Budget, *, by_macs: bool) -> list[str]:
    """What a reader of the numbers should know; `by_macs` tells that multiply-adds are limited."""
    notes = []
    dense, sparsest = budget.fits[0].latency, budget.fits[-1].latency
    if sparsest.bytes > _CONSTANT * dense.bytes:
        notes.append(
            f"A file of format {format_name} does not get smaller by zeros: only where it is"
            f" zipped, from {human_bytes(dense.zipped_bytes)} to"
            f" {human_bytes(sparsest.zipped_bytes)} at {sparsest.sparsity:.1%}."
        )
    if sparsest.speedup < _FASTER:
        notes.append(f"{sparsest.engine} does not get faster by zeros.")
    answer = budget.answer
    if answer is not None and answer.sparsity and answer.macs is not None and not by_macs:
        notes.append(
            "These masks leave the same share of every layer; training chooses its own. Give"
            f" --target-macs {answer.macs:.3g} in place of --target-sparsity to hold the"
            " multiply-adds, which take the time."
        )
    if any(each.latency.varies for each in budget.fits):
        notes.append(BUSY)
    return notes


def _figures(fit: Fit, limits: Mapping[str, float]) -> str:
    return " and ".join(_amount(name, fit.value(name)) for name in limits)


def _amount(limit: str, value: float) -> str:
    if limit == MAX_MS:
        return f"{value:.3g} ms"
    return human_bytes(round(value)) if limit == MAX_BYTES else f"{value:.4g} of the multiply-adds"


def _zeros(fit: Fit) -> str:
    if not fit.sparsity:
        return "dense"
    return f"{100 * fit.sparsity:.2f}".rstrip("0").rstrip(".") + "%"


def _speedup(fit: Fit) -> str:
    row = fit.latency
    if row.baseline:
        return ""
    return "level" if row.level else f"×{ratio_text(row.speedup)}"


def _macs(fit: Fit) -> str:
    return "" if fit.macs is None else f"{fit.macs:.4g}"
