"""A finished run as data: one row of the results (docs/compare.md)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.artifact.formats import BITMASK, STORE
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import copy_artifact
from sparsify.audio.frames import frame_count
from sparsify.comparison.curves import read_curves
from sparsify.comparison.schema import EvaluationFile, LatencyFile, Summary
from sparsify.comparison.test_sets import VALIDATION
from sparsify.documents import MOST_JSON_BYTES, parse_json, read_text
from sparsify.errors import SparsifyError
from sparsify.files import size_bytes, zipped_bytes
from sparsify.methods.registry import pursues_target
from sparsify.models.outlines import uses_in
from sparsify.models.registry import Architecture
from sparsify.models.widths import width_of
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.validation import Section, validate
from sparsify.sparsity.work import SPEECH_SECONDS, total_work
from sparsify.sparsity.zeros import work_with
from sparsify.training.run_directory import RunDirectory

Row = dict[str, Any]

EVALUATIONS = "evaluations"  # folder in a run directory, with a JSON file per test set
LATENCY_FILE = "latency.json"
CONTEXT = "pytorch"  # measured beside the engines that models are deployed in
CORRUPTED = "corrupted_eer_percent"
VALIDATED = ("eer_percent", "min_dcf", CORRUPTED)


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
    recipe, summary = run.saved_recipe(), summary_of(run)
    if summary is None:
        raise SparsifyError(
            f"run '{path}' is not complete: continue it with sparsify train --output"
            f" {shlex.quote(str(path))} --resume"
        )
    if tests is None:
        tests = sorted(file.stem for file in (path / EVALUATIONS).glob("*.json"))
    tested = {name: _evaluation(path / EVALUATIONS / f"{name}.json") for name in tests}
    validation = validation_of(summary)
    standing = tested[tests[0]] if tests else validation
    average = summary.get("average")
    artifact = load_artifact(path)
    table = weights_table(artifact)
    if (table.parameters, table.nonzero) != (summary["parameters"], summary["nonzero"]):
        raise SparsifyError(
            f"'{artifact.path}' is not the model that was trained there: put that back, whose"
            " figures are reported"
        )
    latency = path / LATENCY_FILE
    return {
        "run": path.resolve().name,
        "method": recipe.method,
        "collapsed": summary.get("collapsed"),
        "target_sparsity": recipe.target_sparsity if pursues_target(recipe.method) else None,
        "target_macs": recipe.target_macs if pursues_target(recipe.method) else None,
        "seed": recipe.seed,
        "options": recipe.methods.get(recipe.method, {}),
        "model": recipe.model.name,
        "width": _width(recipe),
        "data": recipe.data.path,
        "sparsity": summary["sparsity"],
        "global_sparsity": summary["global_sparsity"],
        "macs": summary.get("macs"),
        "eer_percent": standing["eer_percent"],
        "min_dcf": standing["min_dcf"],
        VALIDATION: validation,
        "tests": tested,
        "parameters": summary["parameters"],
        "nonzero": summary["nonzero"],
        **_work(artifact),
        **_sizes(artifact),
        "steps": summary["steps"],
        "epochs": summary["epochs"],
        "seconds": summary["seconds"],
        "device": summary["device"],
        "selected_step": summary["selected_step"],
        "averaged_steps": average["steps"] if average and average["selected"] else None,
        "curves": read_curves(run),
        "latency": read_json(latency, LatencyFile) if latency.is_file() else None,
        "layers": [layer.to_json() for layer in table.prunable],
    }


def fastest(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The line of a run's fastest engine, with one thread, if that was measured.

    Twins without zeros and PyTorch, which is there for comparison, do not count.
    """
    lines = [
        line
        for line in (row["latency"] or {"rows": []})["rows"]
        if line["threads"] == 1 and line["engine"] != CONTEXT
    ]
    own = [line for line in lines if line["artifact"] == "sparse"] or lines
    return min(own, key=lambda line: line["median_ms"], default=None)


def summary_of(run: RunDirectory) -> Row | None:
    """The summary of a run, `None` while it is incomplete.

    Raises:
        SparsifyError: It is damaged.
    """
    summary = run.summary()
    if summary is not None:
        validate(Summary, summary, f"'{run.summary_file}'")
    return summary


def validation_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """The figures on validation speakers in the summary of a run."""
    return {key: summary[key] for key in VALIDATED if key in summary}


def read_json(file: Path, schema: type[Section]) -> Any:
    """The content of a JSON file.

    Args:
        file: Which.
        schema: What it must hold.

    Raises:
        SparsifyError: It is missing or damaged.
    """
    try:
        content = parse_json(read_text(file, MOST_JSON_BYTES), f"'{file}'")
        validate(schema, content, f"'{file}'")
    except FileNotFoundError as error:
        raise SparsifyError(f"there is no '{file}': run the comparison again") from error
    except SparsifyError as error:
        raise SparsifyError(f"{error}; it is damaged: delete it") from error
    return content


def _evaluation(file: Path) -> dict[str, Any]:
    """The figures of a test set, and what tells its trials from others."""
    content = read_json(file, EvaluationFile)
    return content["result"] | {"trials_sha256": content["test_set"].get("trials_sha256")}


def _width(recipe: Recipe) -> int | None:
    """The width of the recipe's network; `None` if that is not one of ours, or was shrunk."""
    model = recipe.model
    architecture = Architecture(model.name, model.options)
    return None if architecture.is_code or model.widths else width_of(architecture)


def _work(artifact: Artifact) -> dict[str, int | float | None]:
    """`multiply_adds mac_sparsity` as in `sparsify inspect`; null if the network is not ours."""
    known, front_end = artifact.architecture, artifact.front_end
    if known is None or known.is_code:
        return {"multiply_adds": None, "mac_sparsity": None}
    frames = frame_count(front_end, SPEECH_SECONDS)
    uses = uses_in(known, frames, front_end.num_mel_bins)
    work = total_work(work_with(uses, artifact.arrays).values())
    return {"multiply_adds": work.multiply_adds, "mac_sparsity": work.sparsity}


def _sizes(artifact: Artifact) -> dict[str, int]:
    """Bytes of the model file as it is, zipped, and in the bitmask layout."""
    with TemporaryDirectory() as folder:
        packed = Path(folder) / f"packed{STORE.suffixes[0]}"
        copy_artifact(artifact, packed, BITMASK)
        return {
            "bytes": size_bytes(artifact.path),
            "zipped_bytes": zipped_bytes(artifact.path),
            "bitmask_bytes": packed.stat().st_size,
        }
