"""How results are put into words: figures with their ranges and intervals, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from sparsify.comparison.cells import Target, target_of
from sparsify.comparison.differences import REFERENCE, unsampled
from sparsify.comparison.means import EER_HIGH, EER_LOW
from sparsify.comparison.results import Results
from sparsify.comparison.rows import Row
from sparsify.comparison.test_sets import VALIDATION
from sparsify.sparsity.table import no_weight_left

INTERVALS = (
    "EERs are means over seeds, with their range; in square brackets are 95% confidence intervals"
    " over test speakers, ends averaged over seeds."
)
_MARK = "†"


def references(results: Results) -> list[str]:
    """The methods that others can be compared with: dense first, then in their order."""
    known = {row["against"] for row in results["differences"]}
    methods = dict.fromkeys(entry["method"] for entry in results["means"])
    return sorted((m for m in methods if m in known), key=lambda method: method != REFERENCE)


def compared(results: Results, against: str) -> list[tuple[str, Target | None, dict[str, Row]]]:
    """Every method and target that can be compared with one of the methods, and by test set how."""
    lines: dict[tuple[str, Target | None], dict[str, Row]] = {}
    for row in results["differences"]:
        if row["against"] == against:
            lines.setdefault((row["method"], target_of(row)), {})[row["test"]] = row
    methods = list(dict.fromkeys(entry["method"] for entry in results["means"]))
    ordered = sorted(lines, key=lambda cell: (methods.index(cell[0]), cell[1] or ()))
    return [(method, target, lines[method, target]) for method, target in ordered]


def difference_text(row: Row) -> str:
    """A difference with its interval, such as `−0.50 [−1.42, +0.38]`."""
    return f"{signed(row['eer_percent'])} [{signed(row['low'])}, {signed(row['high'])}]"


def signed(points: float) -> str:
    """A difference in points, such as `−0.50`."""
    # A zero has no sign of its own, and what rounds to it has none either.
    return f"{round(points, 2) + 0.0:+.2f}".replace("-", "−")


def left_out(results: Results) -> str | None:
    """Which runs are in no difference, and why; `None` if there are none."""
    missing = unsampled(results["runs"], [test["name"] for test in results["test_sets"]])
    return (
        f"In no difference, for want of resampled EERs: {', '.join(missing)}." if missing else None
    )


def marked(row: Row) -> str:
    """The method of a run, or of several, with a mark if they have collapsed."""
    return f"{row['method']}{_MARK}" if row.get("collapsed") else str(row["method"])


def lost(results: Results) -> list[str]:
    """A sentence for each run that has collapsed or lost all weights of a layer."""
    sentences = []
    for row in results["runs"]:
        if row.get("collapsed"):
            sentences.append(f"{row['run']}{_MARK} has collapsed: {row['collapsed']}.")
        names = [layer["name"] for layer in row["layers"] if not layer["nonzero"]]
        if names:
            sentences.append(f"{row['run']}: {no_weight_left(names)}.")
    return sentences


def is_clear(row: Row) -> bool:
    """Whether the interval of a difference leaves out zero."""
    return bool(row["low"] > 0 or row["high"] < 0)


def evaluation_sets(results: Results) -> dict[str, str]:
    """The metric of the EER on each evaluation set, with the set's title.

    The test sets or, where there are none, validation speech, clean and corrupted; but none of
    which no method has a mean, as when only some of its runs were evaluated on it.
    """
    sets = {f"{test['name']}.eer_percent": test["name"] for test in results["test_sets"]} or {
        f"{VALIDATION}.eer_percent": "validation",
        f"{VALIDATION}.corrupted_eer_percent": "validation, corrupted",
    }
    known = {metric for entry in results["means"] for metric in entry["metrics"]}
    return {metric: title for metric, title in sets.items() if metric in known}


def tuning_text(row: Row) -> str:
    """What was tried for a method, in a sentence; EERs are those on validation speakers."""
    target = target_of(row)
    at = "" if target is None else f" at {target.text}"
    tried = ", ".join(
        f"{each['value']} ({'failed' if each['error'] else format(each['error_rate'], '.2f')})"
        for each in row["tried"]
    )
    name = f"`{row['method']}.{row['option']}`"
    if row["chosen"] is None:
        return f"No value of {name} could be chosen{at}, seed {row['seed']}: {tried}."
    return (
        f"{name} = {row['chosen']} was chosen{at}, seed {row['seed']},"
        f" by the mean EER on validation speech in percent, clean and corrupted: {tried}."
        f"{_at_the_edge(row)}"
    )


def spread(values: Sequence[float], form: str) -> str:
    """The mean and, of several values, their range."""
    return spread_text({"mean": mean(values), "min": min(values), "max": max(values)}, form)


def eer_text(metrics: Mapping[str, Mapping[str, float]], name: str) -> str:
    """An EER with its range over seeds and, where there is one, its interval over speakers."""
    interval = interval_text(metrics, name)
    return spread_text(metrics.get(name), ".2f") + (interval and f" {interval}")


def interval_text(metrics: Mapping[str, Mapping[str, float]], name: str) -> str:
    """The confidence interval of an EER, such as `[4.1–9.7]`, or nothing."""
    low, high = (metrics.get(f"{name.rpartition('.')[0]}.{end}") for end in (EER_LOW, EER_HIGH))
    return f"[{low['mean']:.1f}–{high['mean']:.1f}]" if low and high else ""


def spread_text(figures: Mapping[str, float] | None, form: str) -> str:
    """Mean and range, such as `7.30 (6.82–7.64)`; the mean alone if there is no range."""
    if figures is None:
        return "–"
    text = f"{figures['mean']:{form}}"
    if figures["min"] == figures["max"]:
        return text
    return f"{text} ({figures['min']:{form}}–{figures['max']:{form}})"


def _at_the_edge(row: Row) -> str:
    """A sentence for a chosen number that was the smallest or largest of those tried."""
    values, chosen = [each["value"] for each in row["tried"]], row["chosen"]
    if any(isinstance(value, bool | str) for value in values):
        return ""
    for edge, which, others in ((min, "smallest", "smaller"), (max, "largest", "larger")):
        if chosen == edge(values):
            return f" It is the {which} value tried: a {others} one may do better."
    return ""
