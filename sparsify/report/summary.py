"""A summary for a pull request, in Markdown: what models have lost and gained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparsify.verification.confidence import Interval
from sparsify.verification.protocol import Loss, Outcome

_SAME = 0.005  # of a size or a time, which nobody would call another


@dataclass(frozen=True)
class Measured:
    """A model, as a summary tells of it.

    Attributes:
        name: What it is called, such as its file.
        outcome: On the trials, with intervals.
        bytes: Size of what is deployed.
        zipped_bytes: Its size after deflate.
        engine: What it is fastest in, if that was measured.
        milliseconds: Median time of an utterance there.
        speedup: How many times as fast that is as the baseline, and a 95 % interval, both in the
            same rounds.
    """

    name: str
    outcome: Outcome
    bytes: int
    zipped_bytes: int
    engine: str | None = None
    milliseconds: float | None = None
    speedup: tuple[float, Interval] | None = None


def summary(baseline: Measured, models: Sequence[Measured], latency: str | None = None) -> str:
    """What was lost and gained by each model, then a table, then how it was measured.

    Args:
        baseline: What the others are compared with.
        models: The others.
        latency: What the times mean, if there are any.
    """
    lines = [f"{_verdict(model, baseline)}\n" for model in models]
    timed = latency is not None
    heads = ["model", "EER", "lost", "minDCF", "size", "zipped", *(["latency"] if timed else [])]
    lines += [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
    lines += [
        f"| {' | '.join(_cells(model, baseline, timed=timed))} |" for model in (baseline, *models)
    ]
    intervals = baseline.outcome.intervals
    assert intervals is not None
    result = baseline.outcome.result
    lines.append(
        f"\n{result.trials:,} trials of {intervals.speakers:,} speakers. In brackets"
        f" {intervals.percent:g}% intervals: the speakers are drawn anew, for what was lost the"
        " same ones for both models. EER in percent; lost are points of it, and what is negative"
        f" was gained. minDCF at p = {result.p_target:g}."
    )
    lines += [f"\n{latency}"] if latency else []
    return "\n".join(lines) + "\n"


def _verdict(model: Measured, baseline: Measured) -> str:
    parts = [_eer_text(model.outcome.loss_against(baseline.outcome))]
    parts.append(ratio_text(baseline.bytes / model.bytes, "smaller", "larger", "of the same size"))
    if model.speedup is not None:
        parts.append(_speed_text(*model.speedup))
    return f"**{_code(model.name)}**, against {_code(baseline.name)}: **{', '.join(parts)}**"


def _eer_text(loss: Loss) -> str:
    low, high = loss.interval
    interval = f"{loss.percent:g}% interval {_signed(low)} to {_signed(high)}"
    if not (loss.eer or low or high):
        return "the same EER"
    word = "lost" if loss.eer >= 0 else "gained"
    chance = ", which may be chance" if low <= 0 <= high else ""
    return f"{abs(loss.eer):.2f} points of EER {word} ({interval}{chance})"


def ratio_text(ratio: float, more: str, less: str, same: str) -> str:
    """A ratio in words, such as `2.5 times smaller`; one that nobody would see is `same`."""
    if abs(ratio - 1) <= _SAME:
        return same
    return f"{ratio:.3g} times {more}" if ratio > 1 else f"{1 / ratio:.3g} times {less}"


def _speed_text(ratio: float, interval: Interval) -> str:
    low, high = interval
    if low <= 1 <= high:
        return f"level in latency (95% interval {low:.2f} to {high:.2f} times as fast)"
    if ratio > 1:
        return f"{ratio:.3g} times faster (95% interval {low:.3g} to {high:.3g})"
    return f"{1 / ratio:.3g} times slower (95% interval {1 / high:.3g} to {1 / low:.3g})"


def _cells(model: Measured, baseline: Measured, *, timed: bool) -> list[str]:
    outcome = model.outcome
    assert outcome.intervals is not None
    lost = "–"
    if model is not baseline:
        loss = outcome.loss_against(baseline.outcome)
        lost = f"**{_signed(loss.eer)}**{_range(loss.interval, '+.2f')}"
    cells = [
        _code(model.name),
        f"{outcome.result.eer_percent:.2f}{_range(outcome.intervals.eer_percent, '.2f')}",
        lost,
        f"{outcome.result.min_dcf:.3f}",
        f"{model.bytes / 1e6:.2f} MB",
        f"{model.zipped_bytes / 1e6:.2f} MB",
    ]
    if timed:
        known = model.milliseconds is not None
        cells.append(f"{model.milliseconds:.2f} ms ({model.engine})" if known else "not measured")
    return cells


def _range(interval: Interval, form: str) -> str:
    low, high = (f"{end:{form}}".replace("-", "−") for end in interval)
    return f" ({low} – {high})"


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "−")


def _code(name: str) -> str:
    """A name as code, which nothing in it ends."""
    return "`" + name.replace("`", "'").replace("|", "¦") + "`"
