"""Gates: the bounds that a result has to keep, in JSON, in words and as an exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sparsify.cli.display import GateError, console, out, styled

if TYPE_CHECKING:
    from sparsify.verification.protocol import Loss


@dataclass(frozen=True)
class Gate:
    """A bound, and what was found.

    Attributes:
        name: Of the option without its dashes; one that begins with `max_` bounds from above,
            any other, such as `min_sparsity`, from below.
        threshold: The bound.
        value: What was found; `None` where it is not known, which `doubt` tells.
        passed: Whether it keeps the bound, a sparsity to the nearest weight.
        what: Names the value in a sentence, such as "the prunable sparsity".
        shown: Writes a value.
        doubt: Why the value tells nothing of the bound, if it does not; it is then not passed.
        model: Whose value it is, where several models have the same bound.
        about: What stands after the value.
    """

    name: str
    threshold: float
    value: float | None
    passed: bool
    what: str
    shown: Callable[[float], str]
    doubt: str | None = None
    model: str | None = None
    about: str = ""

    def to_json(self) -> dict[str, Any]:
        """As all commands print it; no two gates of one command have the same name."""
        name = self.name if self.model is None else f"{self.name} of {self.model}"
        keys = ("threshold", "value", "passed")
        return {"name": name, **{key: getattr(self, key) for key in keys}}

    def __str__(self) -> str:
        most = self.name.startswith("max_")
        good, bad = ("at most", "above") if most else ("at least", "below")
        option, threshold = f"--{self.name.replace('_', '-')}", self.shown(self.threshold)
        is_flag = self.name.startswith("require_")  # it has no value of its own
        bound = f"the threshold {threshold} of {option}" if is_flag else f"{option} {threshold}"
        if self.value is None:
            return f"{self.what} is not known for {bound}: {self.doubt}"
        value = f"{self.shown(self.value)}{self.about}"
        if self.doubt:
            return f"{self.what} {value} does not count for {bound}: {self.doubt}"
        verdict = f"{self.what} {value} is {good if self.passed else bad} {bound}"
        crossed = self.value > self.threshold if most else self.value < self.threshold
        return f"{verdict}, to the nearest weight" if self.passed and crossed else verdict


def at_most(
    name: str, threshold: float, value: float, what: str, shown: Callable[[float], str]
) -> Gate:
    """A gate for a value that must not exceed a threshold; one that is not a number does."""
    return Gate(name, threshold, value, value <= threshold, what, shown)


def at_least(
    name: str, threshold: float, value: float, what: str, shown: Callable[[float], str]
) -> Gate:
    """A gate for a value that must reach a threshold; one that is not a number does not."""
    return Gate(name, threshold, value, value >= threshold, what, shown)


def eer_loss_gate(threshold: float, loss: Loss, model: str | None = None) -> Gate:
    """A gate for what a model may lose in EER against another on the same trials.

    Args:
        threshold: Points of EER in percent.
        loss: What it loses.
        model: Its name, where there are several.
    """
    low, high = loss.interval
    level = f"{loss.percent:g}% interval {low:+.2f} to {high:+.2f}"
    whose = f" of '{model}'" if model else ""
    what = f"the loss in EER{whose} of"
    gate = at_most("max_eer_loss", threshold, loss.eer, what, lambda value: f"{value:.4g} points")
    return replace(gate, model=model, about=f" ({level})")


def verdict_alone(gates: Sequence[object]) -> bool:
    """Whether the verdict on gates is all that a command shows: with `--quiet`."""
    return bool(gates) and console.quiet


def decide(gates: Sequence[Gate], *, as_json: bool = False) -> None:
    """Tells in one line that gates were passed, or fails with a sentence about those that were not.

    Args:
        gates: All of a command.
        as_json: They are in its JSON, which nothing may follow.

    Raises:
        GateError: Some were not passed.
    """
    if failed := [gate for gate in gates if not gate.passed]:
        raise GateError(_joined(failed))
    if gates and not as_json:
        say_passed(_joined(gates))


def say_passed(what: str) -> None:
    """The line about gates that were passed."""
    sentence = styled(f"Passed: {what}")
    sentence.stylize("bold green", 0, len("Passed"))
    out.print(sentence, soft_wrap=not out.is_terminal)


def _joined(gates: Iterable[Gate]) -> str:
    return "; ".join(map(str, gates))
