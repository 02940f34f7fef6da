"""The results of a comparison as data (docs/compare.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsify.comparison.differences import differences
from sparsify.comparison.means import means
from sparsify.comparison.plan import Plan
from sparsify.comparison.rows import Row
from sparsify.comparison.schema import FORMAT_VERSION, ResultsFile
from sparsify.comparison.test_sets import VALIDATION
from sparsify.documents import MOST_JSON_BYTES, parse_json, read_text, to_json
from sparsify.errors import SparsifyError
from sparsify.recipe.validation import validate

Results = dict[str, Any]

RESULTS_FILE = "results.json"
AND = " && "  # between the commands that made results
# Keys of a recipe that differ between the runs of one comparison, or mean nothing.
_OF_A_RUN = {"name", "method", "methods", "target_sparsity", "target_macs", "seed"}


def results_of(
    plan: Plan,
    rows: Sequence[Row],
    tuned: Sequence[Row],
    failures: Mapping[str, str],
) -> Results:
    """The content of `results.json`.

    Args:
        plan: What was compared.
        rows: Of the finished runs.
        tuned: What was chosen before them, and from what.
        failures: What went wrong, by the name of the run.
    """
    tests = [test.model_dump(mode="json") for test in plan.tests]
    recipe = plan.recipe.model_dump(mode="json")
    return runs_alone(tests, recipe, rows) | {
        "command": AND.join(plan.commands),
        "tuning": list(tuned),
        "failures": dict(failures),
    }


def differing_keys(recipe: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys in which recipes differ, other than those in which runs of a comparison do."""
    found = []
    for section in sorted({*recipe, *other} - _OF_A_RUN):
        one, two = recipe.get(section), other.get(section)
        if isinstance(one, dict) and isinstance(two, dict):
            keys = sorted({*one, *two})
            found += [f"{section}.{key}" for key in keys if one.get(key) != two.get(key)]
        elif one != two:
            found.append(section)
    return found


def runs_alone(
    tests: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any], rows: Sequence[Row]
) -> Results:
    """The results of runs that nothing else is known of.

    Args:
        tests: Test sets, each with its `name`.
        recipe: What the runs share.
        rows: Of the runs.
    """
    return {
        "format_version": FORMAT_VERSION,
        "command": "",
        "standing": tests[0]["name"] if tests else VALIDATION,
        "test_sets": list(tests),
        "recipe": dict(recipe),
        "runs": list(rows),
        **derived(rows, tests),
        "tuning": [],
        "failures": {},
    }


def derived(rows: Sequence[Row], tests: Sequence[Mapping[str, Any]]) -> Results:
    """What follows from the rows: `means` and `differences`."""
    return {
        "means": means(rows),
        "differences": differences(rows, [test["name"] for test in tests]),
    }


def results_in(file: Path) -> Results | None:
    """What a file holds, if it says that it is of this version.

    Raises:
        SparsifyError: Something in it is missing or of another type.
    """
    results = parse_json(read_text(file, MOST_JSON_BYTES), f"'{file}'")
    if not isinstance(results, dict):
        raise SparsifyError(f"'{file}' is not a results.json")
    if results.get("format_version") != FORMAT_VERSION:
        return None
    validate(ResultsFile, results, f"'{file}'")
    return results


def results_json(results: Results) -> str:
    """The text of `results.json`: a line per run, which can be read and compared."""
    parts = []
    for key, value in results.items():
        text = to_json(value)
        if isinstance(value, list) and value:
            lines = ",\n".join(f"  {to_json(each)}" for each in value)
            text = f"[\n{lines}\n ]"
        parts.append(f" {to_json(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read_results(folder: Path) -> Results | None:
    """What `results.json` in a folder holds, if it is there and of this version.

    Its means and differences are as they were found.

    Raises:
        SparsifyError: The file is damaged.
    """
    file = folder / RESULTS_FILE
    if not file.is_file():
        return None
    try:
        return results_in(file)
    except SparsifyError as error:
        raise SparsifyError(f"{error}; it is damaged: delete it") from error
