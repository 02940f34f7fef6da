"""`sparsify compare`: methods × targets × seeds × widths, trained alike, evaluated and reported."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from sparsify.cli.comparison_display import comparison_display, show_results
from sparsify.cli.comparison_gates import check_results, gates_json
from sparsify.cli.comparison_plan import plan_of
from sparsify.cli.display import console, emit_json, say, say_next, track
from sparsify.cli.gates import verdict_alone
from sparsify.comparison.cells import target_of
from sparsify.comparison.commands import RUNS
from sparsify.comparison.compare import compare
from sparsify.comparison.executor import Executor
from sparsify.comparison.gates import Gate
from sparsify.comparison.gathering import Part, gather
from sparsify.comparison.means import expected_metrics
from sparsify.comparison.on_ray import ray_cluster
from sparsify.comparison.processes import Processes, default_jobs
from sparsify.comparison.results import Results, read_results
from sparsify.models.names import names_code
from sparsify.progress import phase
from sparsify.report.page import REPORT_FILE, write_report
from sparsify.training.devices import Device

_GPU = {"auto": None, "cpu": False, "cuda": True}


def run(
    *,
    output: Path,
    jobs: int | None,
    executor: str,
    device: Device,
    measure_latency: bool,
    gates: Sequence[Gate],
    trust: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """What `sparsify compare` does."""
    plan = plan_of(output, given, shlex.join(["sparsify", *sys.argv[1:]]), trust=trust)
    names = [test.name for test in plan.tests]
    recipe = plan.recipe
    expected = expected_metrics(
        plan.runs,
        names,
        corrupted=recipe.augment.probability > 0,
        counted=not names_code(recipe.model.name),
    )
    for gate in gates:  # a typo is found before hours of training
        gate.check(expected)
    # Ray takes the signals first, so that those of this command count.
    with _executor(executor, len(plan.runs), jobs, device) as runs_on, _ended_like_interrupted():
        try:
            results = compare(
                plan,
                output,
                executor=runs_on,
                device=device,
                measure_latency=measure_latency,
                trust=trust,
                display=partial(comparison_display, console),
                track=track,
            )
        except KeyboardInterrupt:
            folder = shlex.quote(str(output))
            hint = f"Continue with: sparsify compare --output {folder}"
            if read_results(output) is not None:
                write_report(gather([Part(output)]), output / REPORT_FILE)
                hint += f" ({output / REPORT_FILE} shows what is complete)"
            console.print(hint, markup=False, soft_wrap=True)
            raise
    with phase(track, "writing the report"):
        write_report(results, output / REPORT_FILE)
    if as_json:
        emit_json(results | {"gates": gates_json(results, gates)})
    elif not verdict_alone(gates):
        show_results(results)
        say(f"\nSaved to {output / REPORT_FILE}")
    check_results(results, gates, as_json=as_json)
    if not as_json:
        _say_next(results, output)


def _say_next(results: Results, output: Path) -> None:
    """How to deploy the sparse model of the lowest EER."""
    sparse = [row for row in results["runs"] if target_of(row) is not None]
    if sparse:
        best = min(sparse, key=lambda row: float(row["eer_percent"]))["run"]
        say_next("export", output / RUNS / best, "--format", "onnx", "--output", f"{best}.onnx")


def _executor(
    name: str, runs: int, jobs: int | None, device: Device
) -> AbstractContextManager[Executor]:
    """What runs the commands: this machine, or a cluster."""
    if name == "local":
        return nullcontext(Processes(jobs or default_jobs(runs, device)))
    return ray_cluster(runs, jobs, gpu=_GPU[device])


@contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """Being terminated stops the runs as Ctrl-C does, so that none goes on alone.

    What was told to ignore a signal, as by nohup, goes on doing so.
    """
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
        elif number == signal.SIGINT:
            # Shells do this to what they start in the background. The runs, which are ended by this
            # signal, would inherit ignoring it, but not a handler that does nothing.
            signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
