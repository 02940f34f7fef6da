"""`sparsify compare`: methods × targets × seeds, trained alike, evaluated and reported."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml
from rich.table import Table

from sparsify.cli.comparison_display import comparison_display
from sparsify.cli.display import (
    GateError,
    console,
    emit_json,
    json_option,
    out,
    track,
    verbosity_options,
)
from sparsify.cli.options import PATH, device_option, set_option
from sparsify.comparison.compare import compare
from sparsify.comparison.gates import Gate, parse_gate
from sparsify.comparison.means import expected_metrics, gate_metrics
from sparsify.comparison.plan import (
    PLAN_FILE,
    Cell,
    Plan,
    Scalar,
    TestSet,
    Tuning,
    grid,
    read_plan,
    shared_recipe,
)
from sparsify.comparison.results import Results, read_results
from sparsify.comparison.runner import visible_gpus
from sparsify.comparison.tables import (
    compared,
    difference_text,
    eer_text,
    evaluation_sets,
    percent,
    references,
    spread_text,
    tuning_text,
)
from sparsify.errors import SparsifyError
from sparsify.methods.registry import method_names
from sparsify.recipe import Recipe, load_recipe, recipe_names
from sparsify.report.page import REPORT_FILE, write_report
from sparsify.section import validate
from sparsify.speech.parallel import available_cores
from sparsify.training.networks import network_assignments

T = TypeVar("T")

METHODS = ("dense", "adabreg", "linbreg", "gmp")
TARGETS = (0.75, 0.9, 0.95, 0.99)
SEEDS = (0,)
OWN_OPTIONS = {"method": "--methods", "target_sparsity": "--targets", "seed": "--seeds"}

_EPILOG = """\b
Examples:
  sparsify compare --output comparison               # synthetic speakers
  sparsify compare --data speech/train --methods dense,adabreg,gmp --targets 0.9,0.95 \\
      --seeds 0,1,2 --test clean=trials.txt:speech/test --test noisy=trials.txt:speech/noisy \\
      --output comparison --jobs 2
  sparsify compare --output comparison               # go on after a stop
  sparsify compare --data speech/train --init-from dense-run --methods adabreg,gmp \\
      --tune adabreg.lr=0.001,0.003,0.01 --tune gmp.lr=0.0003,0.001,0.003 --output from-dense
  sparsify compare --output comparison \\
      --fail-if 'adabreg@0.9.eer_percent > dense.eer_percent + 0.5'
"""


def _listed(convert: Callable[[str], T], what: str) -> Callable[..., list[T] | None]:
    """A callback of click for a comma-separated list."""

    def parse(_: click.Context, parameter: click.Parameter, text: str | None) -> list[T] | None:
        if text is None:
            return None
        try:
            return [convert(part.strip()) for part in text.split(",")]
        except ValueError as error:
            raise click.BadParameter(f"'{text}' is not a list of {what}") from error

    return parse


@click.command("compare", epilog=_EPILOG)
@click.option(
    "--methods",
    callback=_listed(str, "methods"),
    metavar="A,B,…",
    help=f"Of {', '.join(method_names())}.  [default: {','.join(METHODS)}]",
)
@click.option(
    "--targets",
    callback=_listed(float, "numbers"),
    metavar="F,F,…",
    help=f"Target sparsities.  [default: {','.join(map(str, TARGETS))}]",
)
@click.option(
    "--seeds",
    callback=_listed(int, "whole numbers"),
    metavar="N,N,…",
    help=f"Seeds of everything random.  [default: {','.join(map(str, SEEDS))}]",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="What all runs share; quickstart for synthetic speakers, else speech-mini."
    f" Shipped: {', '.join(recipe_names())}.",
)
@click.option("--data", metavar="PATH|synthetic", help="As in `sparsify train`.")
@click.option("--model", metavar="NAME|module:factory", help="As in `sparsify train`.")
@click.option(
    "--init-from",
    metavar="PATH",
    help="Start all runs from a model, dense or sparse, as in `sparsify train`.",
)
@set_option
@click.option(
    "--tune",
    "tunings",
    multiple=True,
    metavar="METHOD.OPTION=V,V,…",
    help="Choose an option of a method first, from trainings at its first target, with the first"
    " seed, by the EER on validation speakers; may be repeated.",
)
@click.option("--trials", metavar="FILE", help="Trial list that every model is evaluated on.")
@click.option("--audio-root", metavar="DIR", help="Folder that its names start from.")
@click.option(
    "--test",
    "tests",
    multiple=True,
    metavar="NAME=TRIALS:ROOT",
    help="A named trial list and its audio; may be repeated, the first one stands for a run.",
)
@click.option(
    "--speakers",
    metavar="FILE",
    help="For the confidence intervals: one 'utterance speaker' per line, where the first folder of"
    " a name is not the speaker.",
)
@click.option(
    "--output",
    type=PATH,
    default=Path("comparison"),
    show_default=True,
    help="Folder of runs and results; what it holds is not done again.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Runs at a time; one per GPU, or per two cores, if not given.",
)
@device_option
@click.option(
    "--benchmark",
    "measure_latency",
    is_flag=True,
    help="Measure latencies, too, of the first seed.",
)
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Exit with code 1 when this is true of METHOD@TARGET.METRIC, means over seeds; may be"
    " repeated.",
)
@json_option
@verbosity_options
def compare_command(
    *,
    output: Path,
    jobs: int | None,
    device: str,
    measure_latency: bool,
    conditions: Sequence[str],
    as_json: bool,
    **given: Any,
) -> None:
    """Train methods side by side, evaluate them and report.

    Every method is trained at every target with every seed, on the same data in the same order and
    for as many steps. A comparison that was stopped goes on where it was; more methods, targets and
    seeds may be added to one at any time. Writes results.json, results.csv, results.md and
    report.html.
    """
    gates = [parse_gate(condition) for condition in conditions]
    plan = _plan(output, given)
    names = [test.name for test in plan.tests]
    corrupted = plan.recipe.augment.probability > 0
    for gate in gates:  # a typo is found before hours of training
        gate.check(expected_metrics(plan.runs, names, corrupted=corrupted))
    with _ended_like_interrupted():
        results = compare(
            plan,
            output,
            jobs=jobs or _default_jobs(len(plan.runs), device),
            command=shlex.join(["sparsify", *sys.argv[1:]]),
            device=device,
            measure_latency=measure_latency,
            display=partial(comparison_display, console),
            track=track,
        )
    write_report(results, output / REPORT_FILE)
    if as_json:
        emit_json(results)
    else:
        _show(results, output)
    _check(results, gates)


def _plan(output: Path, given: dict[str, Any]) -> Plan:
    """The comparison in `output`, with what is given added; or a new one."""
    saved = read_plan(output)
    shared = ("recipe", "data", "model", "init_from", "assignments")
    recipe = _recipe(given) if any(given[key] for key in shared) else None
    if saved is None:
        recipe = recipe or _recipe(given)
    elif recipe is not None and recipe != saved.recipe:
        raise SparsifyError(
            f"the comparison in '{output}' has another recipe than given now"
            f" ({PLAN_FILE} holds it): give another --output, or no recipe"
        )
    else:
        recipe = saved.recipe
    tests = _tests(given, saved.tests if saved else ())
    before: Sequence[Cell] = saved.runs if saved else ()
    runs = dict.fromkeys(before)
    if saved is None or any(given[key] for key in ("methods", "targets", "seeds")):
        methods = dict.fromkeys(cell.method for cell in before) or METHODS
        targets = {cell.target_sparsity for cell in before} - {None} or TARGETS
        seeds = {cell.seed for cell in before} or SEEDS
        added = grid(
            given["methods"] or list(methods),
            given["targets"] or sorted(target for target in targets if target is not None),
            given["seeds"] or sorted(seeds),
        )
        runs |= dict.fromkeys(added)
    return Plan(
        recipe=recipe,
        runs=tuple(runs),
        tests=tests,
        tunings=_tunings(output, given["tunings"], saved),
    )


def _recipe(given: dict[str, Any]) -> Recipe:
    data, recipe = given["data"], given["recipe"]
    if recipe is None:
        recipe = "quickstart" if data in (None, "synthetic") else "speech-mini"
    changes = {} if data is None else {"data.path": data}
    for assignment in given["assignments"]:
        key = assignment.partition("=")[0].strip()
        if key in OWN_OPTIONS:
            raise SparsifyError(f"--set {key}: in a comparison use {OWN_OPTIONS[key]}")
    network = network_assignments(given["model"], given["init_from"])
    return shared_recipe(load_recipe(recipe, [*network, *given["assignments"]], changes))


def _tunings(output: Path, given: Sequence[str], saved: Plan | None) -> tuple[Tuning, ...]:
    """Those of the comparison so far, and new ones.

    Raises:
        SparsifyError: One is malformed, or changes a method that has results already.
    """
    tunings = {tuning.method: tuning for tuning in saved.tunings} if saved else {}
    finished = {row["method"] for row in (read_results(output) or {}).get("runs", [])}
    named = set()
    for text in given:
        tuning = _tuning(text)
        method = tuning.method
        if method in named:
            raise SparsifyError(f"--tune '{text}': of each method one option can be tuned")
        if method in finished and tunings.get(method) != tuning:
            raise SparsifyError(
                f"--tune '{text}': '{output}' has results of '{method}' with other options: give"
                " another --output"
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
        value = yaml.safe_load(part)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, Scalar):
        raise SparsifyError(f"--tune '{text}': '{part}' is neither a number nor a word")
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _tests(given: dict[str, Any], saved: Sequence[TestSet]) -> tuple[TestSet, ...]:
    """Those of the comparison so far, and new ones, which replace others of the same name."""
    trials, root = given["trials"], given["audio_root"]
    if (trials is None) != (root is None):
        raise click.UsageError("--trials and --audio-root belong together.")
    parts = [("test", trials, root)] if trials else []
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
    speakers = {"speakers": given["speakers"]} if given["speakers"] else {}
    return tuple(test.model_copy(update=speakers) for test in tests.values())


def _default_jobs(runs: int, device: str) -> int:
    """Small networks gain little from a second core, and processes share nothing."""
    gpus = [] if device == "cpu" else visible_gpus()
    return max(1, min(runs, len(gpus) or available_cores() // 2))


@contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """Being terminated stops the runs as Ctrl-C does, so that none goes on alone."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _show(results: Results, output: Path) -> None:
    sets = evaluation_sets(results)
    view = Table(box=None, pad_edge=False)
    view.add_column("Method")
    heads = ["Target", "Sparsity", *(f"EER {title} %" for title in sets.values()), "minDCF"]
    for heading in (*heads, "Nonzero", "Training", "Seeds"):
        view.add_column(heading, justify="right")
    for entry in results["means"]:
        metrics, target = entry["metrics"], entry["target_sparsity"]
        view.add_row(
            entry["method"],
            "–" if target is None else percent(target),
            f"{metrics['sparsity']['mean']:.3%}",
            *(eer_text(metrics, name) for name in sets),
            spread_text(metrics["min_dcf"], ".3f"),
            f"{metrics['nonzero']['mean']:,.0f}",
            f"{metrics['seconds']['mean']:,.0f} s",
            str(len(entry["seeds"])),
        )
    out.print(view)
    _show_differences(results)
    for row in results["tuning"]:
        out.print(f"\n{tuning_text(row)}", markup=False)
    out.print(f"\nSaved to {output / REPORT_FILE}", markup=False, soft_wrap=True)


def _show_differences(results: Results) -> None:
    """What each method's EER is beside that of dense training or, without it, of the first."""
    against = next(iter(references(results)), None)
    if against is None:
        return
    tests = list(dict.fromkeys(row["test"] for row in results["differences"]))
    view = Table(box=None, pad_edge=False)
    view.add_column(f"Against {against}")
    for heading in ("Target", *(f"EER {test}, points" for test in tests)):
        view.add_column(heading, justify="right")
    for method, target, by_test in compared(results, against):
        texts = [difference_text(by_test[test]) if test in by_test else "–" for test in tests]
        view.add_row(method, "–" if target is None else percent(target), *texts)
    out.print()
    out.print(view)


def _check(results: Results, gates: Sequence[Gate]) -> None:
    """Failed runs, and gates that are not passed, in one sentence."""
    failures = results["failures"]
    if failures:
        reasons: dict[str, list[str]] = {}
        for name, error in failures.items():
            reasons.setdefault(error.partition(" (")[0], []).append(name)
        told = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
        runs = len(results["runs"]) + len(failures)
        raise GateError(f"{len(failures)} of {runs} runs failed: {told}")
    metrics = gate_metrics(results["means"])
    failed = [gate for gate in gates if gate.holds(metrics)]
    if failed:
        told = "; ".join(f"{gate.text} holds: {gate.with_numbers(metrics)}" for gate in failed)
        raise GateError(told)
