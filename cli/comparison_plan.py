"""The comparison that the options of `sparsify compare` describe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsify.cli.recipe_options import described_recipe
from sparsify.comparison.cells import Cell, Scalar, grid
from sparsify.comparison.plan import (
    PLAN_FILE,
    Plan,
    Tuning,
    model_digests,
    read_plan,
    shared_recipe,
)
from sparsify.comparison.results import differing_keys, read_results
from sparsify.comparison.test_sets import TestSet
from sparsify.defaults import COMPARED_METHODS, COMPARED_SEEDS, COMPARED_TARGETS
from sparsify.documents import parse_yaml
from sparsify.errors import SparsifyError
from sparsify.models.registry import require_trust
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.validation import validate

OWN_OPTIONS = {
    "method": "--methods",
    "target_sparsity": "--targets",
    "target_macs": "--targets, which are sparsities",
    "seed": "--seeds",
}


def plan_of(output: Path, given: dict[str, Any], command: str, *, trust: bool) -> Plan:
    """The comparison in `output`, with what is given added; or a new one.

    Args:
        output: Folder of the comparison.
        given: The options of the command by name.
        command: The call, remembered if it adds something.
        trust: Whether files may name code as a network: the plan in `output`, and models that the
            recipe names.

    Raises:
        SparsifyError: An option is malformed, or does not fit what is in the folder, or a file
            names code and is not trusted.
    """
    saved = read_plan(output)
    shared = ("recipe", "data", "model", "init_from", "assignments")
    recipe = _recipe(given, trust=trust) if any(given[key] for key in shared) else None
    if saved is None:
        recipe = recipe or _recipe(given, trust=trust)
    elif recipe is not None and recipe != saved.recipe:
        keys = differing_keys(recipe.model_dump(), saved.recipe.model_dump()) or [
            key for key in ("methods", "name") if getattr(recipe, key) != getattr(saved.recipe, key)
        ]
        raise SparsifyError(
            f"the comparison in '{output}' has another recipe than given now"
            f" ({', '.join(keys)}; {PLAN_FILE} holds it): give another --output, or no recipe"
        )
    elif recipe is None:
        recipe = saved.recipe
        require_trust(recipe.model.name, f"'{output / PLAN_FILE}'", trust=trust)
    models = model_digests(recipe, trust=trust)
    if saved is not None and saved.models != models:
        changed = next(key for key in models if models[key] != saved.models.get(key))
        raise SparsifyError(
            f"{changed}: the model has changed since the comparison in '{output}' began: give"
            " another --output, or the model of before"
        )
    tests = _tests(given, saved.tests if saved else ())
    before: Sequence[Cell] = saved.runs if saved else ()
    runs = dict.fromkeys(before)
    if saved is None or any(given[key] for key in ("methods", "targets", "seeds", "widths")):
        methods = dict.fromkeys(cell.method for cell in before) or COMPARED_METHODS
        targets = {cell.target_sparsity for cell in before} - {None} or COMPARED_TARGETS
        seeds = {cell.seed for cell in before} or COMPARED_SEEDS
        widths = dict.fromkeys(cell.width for cell in before) or (None,)
        added = grid(
            given["methods"] or list(methods),
            given["targets"] or sorted(target for target in targets if target is not None),
            given["seeds"] or sorted(seeds),
            given["widths"] or list(widths),
        )
        runs |= dict.fromkeys(added)
    commands = saved.commands if saved else ()
    plan = Plan(
        recipe=recipe,
        models=models,
        runs=tuple(runs),
        tests=tests,
        tunings=_tunings(output, given["tunings"], saved),
        commands=commands,
    )
    return plan if plan == saved else plan.model_copy(update={"commands": (*commands, command)})


def _recipe(given: dict[str, Any], *, trust: bool) -> Recipe:
    for assignment in given["assignments"]:
        key = assignment.partition("=")[0].strip()
        if key in OWN_OPTIONS:
            raise SparsifyError(f"--set {key}: in a comparison use {OWN_OPTIONS[key]}")
    return shared_recipe(described_recipe(given, trust=trust))


def _tunings(output: Path, given: Sequence[str], saved: Plan | None) -> tuple[Tuning, ...]:
    """Those of the comparison so far, and new ones.

    Raises:
        SparsifyError: One is malformed, or changes a method that has results already.
    """
    tunings = {tuning.method: tuning for tuning in saved.tunings} if saved else {}
    known = {row["method"] for row in (read_results(output) or {}).get("runs", [])}
    finished = {cell.method for cell in saved.runs if cell.series in known} if saved else set()
    named = set()
    for text in given:
        tuning = _tuning(text)
        method = tuning.method
        if method in named:
            raise SparsifyError(f"--tune '{text}': of each method one option can be tuned")
        if method in finished and not tuning.extends(tunings.get(method)):
            raise SparsifyError(
                f"--tune '{text}': '{output}' has results of '{method}' with other options: give"
                " another --output, or all values tried so far and more"
            )
        named.add(method)
        tunings[method] = tuning
    return tuple(tunings.values())


def _tuning(text: str) -> Tuning:
    name, equals, values = text.partition("=")
    method, dot, option = (part.strip() for part in name.partition("."))
    if not (equals and dot and method and option):
        raise SparsifyError(f"--tune '{text}' is not of the form METHOD.OPTION=V,V,…")
    tried = tuple(dict.fromkeys(_value(part.strip(), text) for part in values.split(",")))
    if len(tried) < 2:
        raise SparsifyError(f"--tune '{text}': give two or more different values to choose from")
    return Tuning(method=method, option=option, values=tried)


def _value(part: str, text: str) -> Scalar:
    """A number or word, as YAML has it, with numbers such as 1e-3, which YAML takes for words."""
    try:
        value = parse_yaml(part, f"--tune '{text}'")
    except SparsifyError:
        value = None
    if not isinstance(value, Scalar):
        raise SparsifyError(f"--tune '{text}': '{part}' is neither a number nor a word")
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _tests(given: dict[str, Any], saved: Sequence[TestSet]) -> tuple[TestSet, ...]:
    """Those of the comparison so far, and new ones, which replace others of the same name."""
    trials, root = given["trial_list"], given["audio_root"]
    parts = [("test", str(trials), str(root))] if trials else []
    for text in given["tests"]:
        name, equals, rest = text.partition("=")
        trials, colon, root = rest.rpartition(":")
        if not (equals and colon):
            raise SparsifyError(f"--test '{text}' is not of the form NAME=TRIALS:ROOT")
        parts.append((name, trials, root))
    added = [
        validate(TestSet, {"name": name, "trials": trials, "audio_root": root}, "--test")
        for name, trials, root in parts
    ]
    if len({test.name for test in added}) < len(added):
        raise SparsifyError("two test sets have the same name: give each one of its own")
    tests = {test.name: test for test in (*saved, *added)}
    common = {key: str(given[key]) for key in ("speakers", "trial_label") if given[key]}
    return tuple(test.model_copy(update=common) for test in tests.values())
