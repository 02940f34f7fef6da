"""What `sparsify evaluate` has measured, as a table and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from sparsify.verification.confidence import Confidence
from sparsify.verification.evaluate import Evaluation
from sparsify.verification.metrics import DetectionCost
from sparsify.verification.protocol import Loss, Outcome


@dataclass(frozen=True)
class Baseline:
    """What a model is compared with.

    Attributes:
        path: Its file.
        result: Its figures.
        loss: What the model loses against it.
    """

    path: Path
    result: Evaluation
    loss: Loss

    def to_json(self) -> dict[str, Any]:
        """As the command prints it."""
        return {
            "path": str(self.path),
            "eer_percent": self.result.eer_percent,
            "min_dcf": self.result.min_dcf,
            "eer_loss": self.loss.eer,
            "eer_loss_interval": self.loss.interval,
            "percent": self.loss.percent,
        }


def confidence_json(intervals: Confidence | None, *, resampled: bool) -> dict[str, Any] | None:
    """The intervals, with the rate of every sample on request."""
    if intervals is None:
        return None
    content = asdict(intervals)
    if not resampled:  # a thousand numbers
        del content["resampled_eer_percent"]
    return content


def table_of(outcome: Outcome, costs: Sequence[DetectionCost], baseline: Baseline | None) -> Table:
    """The figures of a model, with those of its baseline."""
    result, points, intervals = outcome.result, outcome.points, outcome.intervals
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    if intervals is None:
        ranges: list[tuple[Any, ...]] = [()] * (1 + len(costs))
    else:
        ranges = [intervals.eer_percent, *intervals.min_dcf]
        table.add_column(justify="right")
    table.add_row("EER", f"{result.eer_percent:.3f}%", *_interval(ranges[0], ".3f", "%"))
    if baseline:
        loss = baseline.loss
        table.add_row("  baseline's", f"{baseline.result.eer_percent:.3f}%")
        table.add_row("  lost", f"{loss.eer:+.3f}", *_interval(loss.interval, "+.3f"))
    for cost, interval in zip(costs, ranges[1:], strict=True):
        name = f"minDCF (p = {cost.p_target:g})"
        table.add_row(name, f"{points.min_dcf(cost):.4f}", *_interval(interval, ".4f"))
        if baseline and cost is costs[0]:
            table.add_row("  baseline's", f"{baseline.result.min_dcf:.4f}")
    if intervals:
        table.add_row("speakers", f"{intervals.speakers:,}", f"{intervals.percent:g}% intervals")
    table.add_row("trials", f"{result.trials:,}")
    table.add_row("  target", f"{result.targets:,}")
    table.add_row("  nontarget", f"{result.nontargets:,}")
    table.add_row("utterances", f"{result.utterances:,}")
    table.add_row("time to embed", f"{result.seconds:.1f} s")
    return table


def _interval(interval: Sequence[float], form: str, unit: str = "") -> list[str]:
    return [f"{interval[0]:{form}} – {interval[1]:{form}}{unit}"] if interval else []
