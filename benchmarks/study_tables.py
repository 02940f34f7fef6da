"""The tables of the study by condition, in Markdown, from its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from statistics import mean

from sparsify.comparison.cells import Target, label_of, target_of, target_text
from sparsify.comparison.differences import OVERALL, differences, overall
from sparsify.comparison.means import by_cell
from sparsify.comparison.results import Results
from sparsify.comparison.rows import Row
from sparsify.comparison.wording import compared, difference_text, is_clear, signed
from sparsify.methods.names import METHODS

TUNED_SEED = 0  # which options were chosen with
CLEAN = "clean"
LAYERS = {
    "first convolution": "layer1.*",
    "1 × 1 convolutions of the blocks": "layer[234].se_res2block.[02].*",
    "Res2 convolutions": "layer[234].se_res2block.1.*",
    "squeeze-excitation": "layer[234].se_res2block.3.*",
    "`conv`, which joins the blocks": "conv.*",
    "attention of the pooling, first": "pool.linear1.*",
    "attention of the pooling, second": "pool.linear2.*",
    "embedding": "linear.*",
}
"""The prunable layers of the study's ECAPA-TDNN."""


def in_order(rows: Iterable[Row]) -> list[Row]:
    """By target, then as methods are registered; variants after the method that they are of."""

    def place(row: Row) -> tuple[tuple[float, ...], int, str]:
        names = [name for name in METHODS if row["method"].startswith(name)]
        first = list(METHODS).index(max(names, key=len))
        return target_of(row) or (), first, row["method"]

    return sorted(rows, key=place)


def mean_eer(row: Row, tests: Sequence[str]) -> float:
    """The mean EER of a run over test sets."""
    return mean(row["tests"][test]["eer_percent"] for test in tests)


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]], words: int = 2) -> str:
    """A table; its first columns are words, the others figures."""
    rule = "---|" * words + "--:|" * (len(heads) - words)
    return "\n".join(
        [f"| {' | '.join(heads)} |", f"|{rule}", *(f"| {' | '.join(line)} |" for line in lines)]
    )


def tests_of(results: Results) -> list[str]:
    """The test sets, in the order of the study."""
    names = [test["name"] for test in results["test_sets"]]
    order = ["clean", "noisy", "room", "babble", "telephone"]
    return sorted(names, key=order.index)


def only(rows: Iterable[Row], methods: Iterable[str] | None) -> list[Row]:
    """The rows of some methods, `None` for all."""
    known = None if methods is None else {*methods}
    return [row for row in rows if known is None or row["method"] in known]


def models(results: Results, methods: Iterable[str] | None = None) -> str:
    """What `results.md` has, and all conditions: means over seeds, with intervals."""
    tests, cells = tests_of(results), by_cell(results["runs"])
    known = overall(results["runs"], tests)
    heads = ["method", "target", "sparsity", "nonzero", *tests, OVERALL, "minDCF, clean", "seeds"]
    lines = []
    for entry in in_order(only(results["means"], methods)):
        metrics = entry["metrics"]
        if f"{CLEAN}.eer_percent" not in metrics:
            continue  # nobody has tested it
        eers = [
            f"{metrics[f'{test}.eer_percent']['mean']:.2f}"
            f" [{metrics[f'{test}.eer_percent_low']['mean']:.1f},"
            f" {metrics[f'{test}.eer_percent_high']['mean']:.1f}]"
            for test in tests
        ]
        runs = cells[entry["cell"]]
        whole = f"{mean(mean_eer(row, tests) for row in runs):.2f}"
        if entry["cell"] in known:
            whole += " [{1:.1f}, {2:.1f}]".format(*known[entry["cell"]])
        figures = [
            f"{metrics['sparsity']['mean']:.3%}",
            f"{metrics['nonzero']['mean']:,.0f}",
            *eers,
            whole,
            f"{metrics[f'{CLEAN}.min_dcf']['mean']:.3f}",
            str(len(runs)),
        ]
        lines.append([f"`{entry['method']}`", target_text(entry), *figures])
    return _table(heads, lines)


def against(
    results: Results, references: Iterable[str], methods: Iterable[str] | None = None
) -> list[str]:
    """A heading and a table for each method that others are compared with."""
    known = None if methods is None else {*methods}
    parts = []
    for against in references:
        lines = [line for line in compared(results, against) if known is None or line[0] in known]
        parts += [f"### Minus `{against}`", _compared(lines, tests_of(results))]
    return parts


def _compared(lines: Iterable[tuple[str, Target | None, dict[str, Row]]], tests: list[str]) -> str:
    """Differences by condition, in the mean, and of this by seed."""
    rows = []
    for method, target, by_test in lines:
        cells = [_difference(by_test.get(test)) for test in (*tests, OVERALL)]
        seeds = by_test[OVERALL]["by_seed"] or []
        at = "–" if target is None else target.text
        rows.append([f"`{method}`", at, *cells, ", ".join(map(signed, seeds))])
    return _table(["method", "target", *tests, OVERALL, f"{OVERALL}, by seed"], rows)


def _difference(row: Row | None) -> str:
    if row is None:
        return "–"
    text = difference_text(row)
    return f"**{text}**" if is_clear(row) else text


def _pairs(gaps: Iterable[Row], tests: Sequence[str], references: Sequence[str]) -> str:
    """A line for each method and reference, which is the earlier one of two references."""
    lines: dict[tuple[str, str, str], dict[str, Row]] = {}
    for gap in gaps:
        method, against = gap["method"], gap["against"]
        earlier = references[: references.index(method)] if method in references else references
        if against in earlier:
            lines.setdefault((method, against, target_text(gap)), {})[gap["test"]] = gap
    rows = [
        [*(f"`{name}`" for name in key[:2]), key[2], *(_difference(own.get(t)) for t in tests)]
        for key, own in lines.items()
    ]
    return _table(["method", "minus", "target", *tests], rows, words=3)


def without_tuned_seed(results: Results) -> str:
    """Differences of methods that have further seeds, of these alone."""
    tests = tests_of(results)
    rows = in_order(row for row in results["runs"] if row["seed"] != TUNED_SEED)
    references = ("dense", "dense-little-decay", "gmp", "linbreg")
    return _pairs(differences(rows, tests), [*tests, OVERALL], references)


def added(results: Results) -> str:
    """Differences of differences: the samples of a condition minus those of clean speech."""
    tests = tests_of(results)
    others = [test for test in tests if test != CLEAN]
    rows = [
        row | {"tests": {test: _beside(row["tests"][test], row["tests"][CLEAN]) for test in others}}
        for row in in_order(results["runs"])
    ]
    return _pairs(differences(rows, others), others, ("dense", "dense-little-decay"))


def _beside(one: Row, two: Row) -> Row:
    """An evaluation minus another one of the same trials, sample by sample."""
    samples = (each["confidence"]["resampled_eer_percent"] for each in (one, two))
    apart = [a - b for a, b in zip(*samples, strict=True)]
    return one | {
        "eer_percent": one["eer_percent"] - two["eer_percent"],
        "confidence": {"resampled_eer_percent": apart},
    }


def by_step(results: Results, figure: Callable[[Row, int], str], steps: Sequence[int]) -> str:
    """Figures of the runs' curves at some steps."""
    lines = []
    for row in results["runs"]:
        curves = row["curves"]
        places = [curves["step"].index(step) for step in steps]
        lines.append([f"`{row['method']}`", *(figure(curves, place) for place in places)])
    return _table(["method", *map(str, steps)], lines, words=1)


def tuning(studies: Sequence[Results]) -> str:
    """All values that were tried, by method and option, with that of the study's run."""
    used = {(label_of(row), row["seed"]): row for results in studies for row in results["runs"]}
    lines = []
    for results in studies:
        for tuned in results["tuning"]:
            run = used[label_of(tuned), tuned["seed"]]
            value = run["options"][tuned["option"]]
            tried = ", ".join(
                f"**{text}**" if each["value"] == value else text
                for each in tuned["tried"]
                for text in [f"{each['value']}: {each['error_rate']:.2f}"]
            )
            rates = [run["validation"][key] for key in ("eer_percent", "corrupted_eer_percent")]
            method = f"`{tuned['method']}`"
            shown = value if isinstance(value, str) else f"{value:g}"
            lines.append([method, f"`{tuned['option']}`", tried, shown, f"{mean(rates):.2f}"])
    lines.sort(key=lambda line: (line[0].strip("`"), line[1]))
    return _table(["method", "option", "tried", "the study uses", "its EER"], lines, words=3)


def runs(rows: Iterable[Row], tests: Sequence[str]) -> str:
    """A line for each training."""
    heads = ["run", "target", "seed", "sparsity", *tests, OVERALL, "minDCF, clean", "validation"]
    lines = [
        [
            f"`{row['run']}`",
            target_text(row),
            str(row["seed"]),
            f"{row['sparsity']:.3%}",
            *(f"{row['tests'][test]['eer_percent']:.2f}" for test in tests),
            f"{mean_eer(row, tests):.2f}",
            f"{row['tests'][CLEAN]['min_dcf']:.3f}",
            f"{row['validation']['eer_percent']:.2f} /"
            f" {row['validation']['corrupted_eer_percent']:.2f}",
        ]
        for row in in_order(rows)
    ]
    return _table(heads, lines)


def layers(results: Results) -> str:
    """Zeros by the kind of layer, of the methods at 90 %."""
    cells = {
        rows[0]["method"]: rows
        for rows in by_cell(in_order(results["runs"])).values()
        if target_of(rows[0]) == Target(0.9)
    }
    lines = []
    for kind, pattern in LAYERS.items():
        zeros = []
        for rows in cells.values():
            own = [la for row in rows for la in row["layers"] if fnmatch(la["name"], pattern)]
            weights = sum(layer["parameters"] for layer in own)
            zeros.append(f"{100 - 100 * sum(layer['nonzero'] for layer in own) / weights:.1f}")
        lines.append([kind, f"{weights // len(rows):,}", *zeros])
    return _table(["layers", "weights", *(f"`{name}`" for name in cells)], lines, words=1)
