"""Results that were made one by one, joined to those of one comparison (docs/compare.md)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.comparison.cells import series_name, target_of
from sparsify.comparison.means import by_cell
from sparsify.comparison.plan import PLAN_FILE
from sparsify.comparison.results import (
    AND,
    RESULTS_FILE,
    Results,
    derived,
    differing_keys,
    results_in,
    runs_alone,
)
from sparsify.comparison.rows import Row, collect_run
from sparsify.comparison.test_sets import VALIDATION
from sparsify.errors import SparsifyError
from sparsify.training.run_directory import RunDirectory

logger = logging.getLogger(__name__)
_MOST_RUNS = 1000  # of a page


@dataclass(frozen=True)
class Part:
    """Results that were made by themselves.

    Attributes:
        path: A run directory, the folder of a comparison or its `results.json`.
        name: Added to its methods, `gmp` becoming `gmp-NAME`, so that they stay apart from those of
            the same name that were trained in another way; empty to add nothing.
    """

    path: Path
    name: str = ""


def gather(parts: Sequence[Part]) -> Results:
    """Results of runs, and of comparisons that were made one by one, as those of one.

    What stands for a run is its result on the first test set that all runs were evaluated on, or on
    validation speakers if there is none.

    Args:
        parts: What to join; the recipe is that of the first. A training that is in several parts
            counts once, with the test sets of all.

    Raises:
        SparsifyError: A run is not complete, results are missing or damaged, or test sets of one
            name have different trials.
    """
    found = [_renamed(_found(part.path), part.name) for part in parts]
    _tell_widths_apart([row for part in found for row in part["runs"]])
    whole = found[0]
    known = [(whole["recipe"], row) for row in whole["runs"]]
    for part, other in zip(parts[1:], found[1:], strict=True):
        mixed = by_cell(whole["runs"]).keys() & by_cell(other["runs"]).keys()
        names = {test["name"] for test in whole["test_sets"]}
        whole["test_sets"] += [test for test in other["test_sets"] if test["name"] not in names]
        known += _added(known, other, part.path)
        whole["tuning"] += [each for each in other["tuning"] if each not in whole["tuning"]]
        whole["failures"] |= other["failures"]
        commands = [each for r in (whole, other) for each in r["command"].split(AND) if each]
        whole["command"] = AND.join(dict.fromkeys(commands))
        if mixed and (keys := differing_keys(whole["recipe"], other["recipe"])):
            logger.warning(
                "'%s' was made with another recipe (%s): give it as NAME=%s to keep its methods"
                " apart",
                part.path,
                ", ".join(keys),
                part.path,
            )
    rows = whole["runs"] = [row for _, row in known]
    if len(rows) > _MOST_RUNS:
        raise SparsifyError(f"{len(rows)} runs are too many: report {_MOST_RUNS} at most at once")
    numbers, counts = Counter(row["run"] for row in rows), Counter[str]()
    for row in rows:
        name = row["run"]
        if numbers[name] > 1:
            counts[name] += 1
            row["run"] = f"{name} ({counts[name]})"
    tests = [test["name"] for test in whole["test_sets"]]
    for name in tests:
        _check_same_trials(name, rows)
    _warn_of_options(rows)
    _warn_of_gaps(tests, rows)
    standing = next((name for name in tests if all(name in r["tests"] for r in rows)), VALIDATION)
    for row in rows:
        figures = row[VALIDATION] if standing == VALIDATION else row["tests"][standing]
        row |= {key: figures[key] for key in ("eer_percent", "min_dcf")}
    return whole | {"standing": standing} | derived(rows, whole["test_sets"])


def _added(
    known: Sequence[tuple[Mapping[str, Any], Row]], part: Results, path: Path
) -> list[tuple[Mapping[str, Any], Row]]:
    """The runs of a part that are not known, with its recipe.

    One that is gets the test sets that the other was evaluated on, if it is the same network.
    """
    added = []
    for row in part["runs"]:
        same = [mine for recipe, mine in known if _same_training(recipe, mine, part["recipe"], row)]
        if not same:
            added.append((part["recipe"], row))
        elif same[0][VALIDATION] == row[VALIDATION]:
            for name in row["tests"]:
                _check_same_trials(name, [same[0], row])
            same[0]["tests"] = same[0]["tests"] | row["tests"]
        else:  # on another machine, or by another version
            logger.warning(
                "'%s' in '%s' repeats a run of another part and has other figures: it is left out",
                row["run"],
                path,
            )
    return added


def _tell_widths_apart(rows: Sequence[Row]) -> None:
    """Names the methods of networks that differ in width, as `sparsify compare --widths` does."""
    for group in by_cell(rows).values():
        if len({row.get("width") for row in group}) > 1:
            for row in group:
                row["method"] = series_name(row["method"], row.get("width"))


def _same_training(
    recipe: Mapping[str, Any], row: Row, other_recipe: Mapping[str, Any], other: Row
) -> bool:
    """Whether two runs are the same training, perhaps done twice."""
    keys = ("method", "seed", "options")  # rows of older versions lack options
    return (
        "options" in row
        and target_of(row) == target_of(other)
        and all(row[key] == other.get(key) for key in keys)
        and row.get("width") == other.get("width")
        and not differing_keys(recipe, other_recipe)
    )


def _check_same_trials(test: str, rows: Sequence[Row]) -> None:
    """Refuses to show results on different trials as results on one test set."""
    digests: dict[str, Row] = {}
    for row in rows:
        if digest := row["tests"].get(test, {}).get("trials_sha256"):
            digests.setdefault(digest, row)
    if len(digests) > 1:
        first, second, *_ = (row["run"] for row in digests.values())
        raise SparsifyError(
            f"'{first}' and '{second}' were evaluated on different trials, both called '{test}':"
            " give test sets different names, and compare again"
        )


def _warn_of_options(rows: Sequence[Row]) -> None:
    """Tells which runs count as seeds of one another and differ in more than the seed."""
    for cell, group in by_cell(rows).items():
        # Rows of an older version lack what was not said in the recipe.
        options = [row["options"] for row in group if "options" in row]
        keys = sorted({key for own in options for key in own})
        known = {key: [own[key] for own in options if key in own] for key in keys}
        differing = [key for key in keys if any(value != known[key][0] for value in known[key])]
        if differing:
            logger.warning(
                "the runs of %s differ in %s: give those of one kind as NAME=PATH to keep them"
                " apart",
                cell,
                ", ".join(differing),
            )


def _warn_of_gaps(tests: Sequence[str], rows: Sequence[Row]) -> None:
    """Tells which means cannot be shown, for want of some of the runs."""
    cells = by_cell(rows)
    for test in tests:
        partly = [
            cell
            for cell, group in cells.items()
            if 0 < sum(test in row["tests"] for row in group) < len(group)
        ]
        if partly:
            logger.warning(
                "no mean on '%s' for %s: some of the runs were not evaluated on it",
                test,
                ", ".join(partly),
            )


def _renamed(results: Results, name: str) -> Results:
    """The results with a name added to every method and run."""
    if not name:
        return results

    def renamed(row: Row) -> Row:
        own = {key: f"{row[key]}-{name}" for key in ("method", "run") if key in row}
        return row | own

    tuning = [
        renamed(row) | {"tried": [renamed(each) for each in row["tried"]]}
        for row in results["tuning"]
    ]
    failures = {f"{run}-{name}": error for run, error in results["failures"].items()}
    return results | {
        "runs": [renamed(row) for row in results["runs"]],
        "tuning": tuning,
        "failures": failures,
    }


def _found(path: Path) -> Results:
    """The results at a path."""
    if not path.exists():
        raise SparsifyError(f"there is no '{path}': check the path")
    if path.is_file() or (path / RESULTS_FILE).is_file():
        return _read_results(path if path.is_file() else path / RESULTS_FILE)
    if (path / PLAN_FILE).is_file():
        raise SparsifyError(
            f"the comparison in '{path}' has no results yet: sparsify compare --output {path} goes"
            " on with it"
        )
    row = collect_run(path)
    recipe = RunDirectory(path).saved_recipe().model_dump(mode="json")
    return runs_alone([{"name": name} for name in row["tests"]], recipe, [row])


def _read_results(file: Path) -> Results:
    try:
        results = results_in(file)
        if results is None:
            raise SparsifyError(f"'{file}' is not the results.json of a comparison by this version")
    except SparsifyError as error:
        raise SparsifyError(
            f"{error}: give run directories, folders of comparisons or their results.json"
        ) from error
    return results
