"""The results of runs as data: one row per run, and means over seeds (docs/compare.md)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from sparsify.artifact import Artifact, load_artifact, weights_table, write_artifact
from sparsify.comparison.curves import read_curves
from sparsify.comparison.plan import PLAN_FILE, VALIDATION, Cell, Plan, label
from sparsify.errors import SparsifyError
from sparsify.files import zipped_bytes
from sparsify.methods.registry import pursues_target
from sparsify.training.run_directory import RunDirectory

Row = dict[str, Any]
Results = dict[str, Any]

FORMAT_VERSION = 2
RESULTS_FILE = "results.json"
EVALUATIONS = "evaluations"  # folder in a run directory, with a JSON file per test set
LATENCY_FILE = "latency.json"
_VALIDATED = ("eer_percent", "min_dcf", "corrupted_eer_percent")
_COUNTED = (
    "sparsity",
    "global_sparsity",
    "eer_percent",
    "min_dcf",
    "parameters",
    "nonzero",
    "bytes",
    "zipped_bytes",
    "bitmask_bytes",
    "steps",
    "seconds",
)
_TESTED = ("eer_percent", "min_dcf")
_AND = " && "  # between the commands that made results
EER_LOW, EER_HIGH = "eer_percent_low", "eer_percent_high"


def collect_run(path: Path, tests: Sequence[str] | None = None) -> Row:
    """The row of a finished run.

    Args:
        path: The run directory.
        tests: Names of the test sets to report, the first of which stands for the run; those that
            were evaluated if not given.

    Raises:
        SparsifyError: The run is not complete, or one of its files is damaged.
    """
    run = RunDirectory(path)
    if not run.recipe_file.is_file():
        raise SparsifyError(f"'{path}' is not a run directory: it has no {run.recipe_file.name}")
    recipe, summary = run.saved_recipe(), run.summary()
    if summary is None:
        raise SparsifyError(f"'{path}' is not complete: continue it with --resume")
    if tests is None:
        tests = sorted(file.stem for file in (path / EVALUATIONS).glob("*.json"))
    tested = {name: read_json(path / EVALUATIONS / f"{name}.json")["result"] for name in tests}
    validation = validation_of(summary)
    standing = tested[tests[0]] if tests else validation
    average = summary.get("average")
    artifact = load_artifact(path)
    latency = path / LATENCY_FILE
    return {
        "run": path.resolve().name,
        "method": recipe.method,
        "target_sparsity": recipe.target_sparsity if pursues_target(recipe.method) else None,
        "seed": recipe.seed,
        "model": recipe.model.name,
        "data": recipe.data.path,
        "sparsity": summary["sparsity"],
        "global_sparsity": summary["global_sparsity"],
        "eer_percent": standing["eer_percent"],
        "min_dcf": standing["min_dcf"],
        VALIDATION: validation,
        "tests": tested,
        "parameters": summary["parameters"],
        "nonzero": summary["nonzero"],
        **_sizes(artifact),
        "steps": summary["steps"],
        "epochs": summary["epochs"],
        "seconds": summary["seconds"],
        "device": summary["device"],
        "selected_step": summary["selected_step"],
        "averaged_steps": average["steps"] if average and average["selected"] else None,
        "curves": read_curves(run),
        "latency": read_json(latency) if latency.is_file() else None,
        "layers": [
            {
                "name": layer.name,
                "type": layer.type,
                "shape": list(layer.shape),
                "parameters": layer.parameters,
                "nonzero": layer.nonzero,
                "sparsity": layer.sparsity,
            }
            for layer in weights_table(artifact).prunable
        ],
    }


def validation_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """The figures on validation speakers in the summary of a run."""
    return {key: summary[key] for key in _VALIDATED if key in summary}


def summarise(
    plan: Plan,
    rows: Sequence[Row],
    tuned: Sequence[Row],
    failures: Mapping[str, str],
    command: str,
) -> Results:
    """The content of `results.json`.

    Args:
        plan: What was compared.
        rows: Of the finished runs.
        tuned: What was chosen before them, and from what.
        failures: What went wrong, by the name of the run.
        command: That made the results.
    """
    tests = [test.model_dump(mode="json") for test in plan.tests]
    recipe = plan.recipe.model_dump(mode="json")
    return _results(tests, recipe, rows) | {
        "command": command,
        "tuning": list(tuned),
        "failures": dict(failures),
    }


def gather(paths: Sequence[Path]) -> Results:
    """Results of runs, and of comparisons that were made one by one, as those of one.

    Args:
        paths: Run directories, folders of comparisons and their `results.json`; recipe and test
            sets of all are those of the first, and what is given twice counts once.

    Raises:
        SparsifyError: A run is not complete, or results are missing or damaged.
    """
    whole: Results | None = None
    for path in paths:
        found = _found(path)
        if whole is None:
            whole = found
            continue
        for key in ("runs", "tuning"):
            whole[key] += [each for each in found[key] if each not in whole[key]]
        whole["failures"] |= found["failures"]
        commands = dict.fromkeys([*whole["command"].split(_AND), found["command"]])
        whole["command"] = _AND.join(filter(None, commands))
    assert whole is not None, "no paths"
    rows = whole["runs"]
    for name, number in Counter(row["run"] for row in rows).items():
        same = [row for row in rows if row["run"] == name]
        for count, row in enumerate(same if number > 1 else [], start=1):
            row["run"] = f"{name} ({count})"
    return whole | {"means": means(rows)}


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
    return _results([{"name": name} for name in row["tests"]], recipe, [row])


def _results(
    tests: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any], rows: Sequence[Row]
) -> Results:
    return {
        "format_version": FORMAT_VERSION,
        "command": "",
        "standing": tests[0]["name"] if tests else VALIDATION,
        "test_sets": list(tests),
        "recipe": dict(recipe),
        "runs": list(rows),
        "means": means(rows),
        "tuning": [],
        "failures": {},
    }


def means(rows: Iterable[Row]) -> list[Row]:
    """Mean, smallest and largest of every metric over seeds, method by method, by target."""
    cells: dict[str, list[Row]] = {}
    for row in rows:
        cells.setdefault(label(row["method"], row["target_sparsity"]), []).append(row)
    methods = list(dict.fromkeys(group[0]["method"] for group in cells.values()))

    def place(cell: str) -> tuple[int, float]:
        first = cells[cell][0]
        return methods.index(first["method"]), first["target_sparsity"] or 0.0

    return [
        {
            "cell": name,
            "method": group[0]["method"],
            "target_sparsity": group[0]["target_sparsity"],
            "seeds": [row["seed"] for row in group],
            "metrics": _spreads([metrics_of(row) for row in group]),
        }
        for name in sorted(cells, key=place)
        for group in [cells[name]]
    ]


def metrics_of(row: Row) -> dict[str, float]:
    """The numbers of a row by name: its own, `validation.eer_percent`, `TEST.eer_percent` …

    `TEST.eer_percent_low` and `TEST.eer_percent_high` are the confidence interval over speakers.
    """
    figures = {key: float(row[key]) for key in _COUNTED}
    for name, group in ((VALIDATION, row[VALIDATION]), *row["tests"].items()):
        for key, value in group.items():
            if name == VALIDATION or key in _TESTED:
                figures[f"{name}.{key}"] = float(value)
        if interval := group.get("confidence"):
            low, high = interval["eer_percent"]
            figures |= {f"{name}.{EER_LOW}": low, f"{name}.{EER_HIGH}": high}
    return figures


def metric_names(tests: Sequence[str]) -> list[str]:
    """The metrics that runs will have once they are evaluated on these test sets."""
    names = [f"{VALIDATION}.{key}" for key in _VALIDATED]
    return [*_COUNTED, *names, *(f"{test}.{key}" for test in tests for key in _TESTED)]


def gate_metrics(results: Results) -> dict[str, dict[str, float]]:
    """Means over seeds as gates see them: by `adabreg@0.9` and the like, then by metric."""
    return {
        entry["cell"]: {name: spread["mean"] for name, spread in entry["metrics"].items()}
        for entry in results["means"]
    }


def expected_metrics(cells: Iterable[Cell], tests: Sequence[str]) -> dict[str, dict[str, float]]:
    """What `gate_metrics` will know of a grid; the values mean nothing."""
    return {cell.label: dict.fromkeys(metric_names(tests), 0.0) for cell in cells}


def _read_results(file: Path) -> Results:
    try:
        results: Any = json.loads(file.read_text("utf-8"))
    except ValueError:  # no JSON, or not even text
        results = None
    version = results.get("format_version") if isinstance(results, dict) else None
    if version != FORMAT_VERSION or "runs" not in results:
        raise SparsifyError(
            f"'{file}' is not the results.json of a comparison by this version: give run"
            " directories, folders of comparisons or their results.json"
        )
    return dict(results)


def to_json(results: Results) -> str:
    """The text of `results.json`: a line per run, which can be read and compared."""
    parts = []
    for key, value in results.items():
        text = json.dumps(value, allow_nan=False)
        if isinstance(value, list) and value:
            lines = ",\n".join(f"  {json.dumps(each, allow_nan=False)}" for each in value)
            text = f"[\n{lines}\n ]"
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read_results(folder: Path) -> Results | None:
    """What `results.json` in a folder holds, if it is there and of this version.

    Raises:
        SparsifyError: The file is damaged.
    """
    file = folder / RESULTS_FILE
    if not file.is_file():
        return None
    results: Results = read_json(file)
    return results if results.get("format_version") == FORMAT_VERSION else None


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        SparsifyError: It is missing or damaged.
    """
    try:
        return json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise SparsifyError(f"there is no '{file}': run the comparison again") from error
    except ValueError as error:
        raise SparsifyError(f"'{file}' is damaged: delete it") from error


def _spreads(figures: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    everywhere = [name for name in figures[0] if all(name in each for each in figures)]
    columns = {name: [each[name] for each in figures] for name in everywhere}
    return {
        name: {"mean": mean(values), "min": min(values), "max": max(values)}
        for name, values in columns.items()
    }


def _sizes(artifact: Artifact) -> dict[str, int]:
    """Bytes of the model file as it is, zipped, and in the bitmask layout."""
    with TemporaryDirectory() as folder:
        packed = Path(folder) / "bitmask.safetensors"
        recipe, measured = artifact.recipe, artifact.measured
        write_artifact(artifact.build(), packed, artifact.front_end, recipe, "bitmask", measured)
        return {
            "bytes": artifact.path.stat().st_size,
            "zipped_bytes": zipped_bytes(artifact.path),
            "bitmask_bytes": packed.stat().st_size,
        }
