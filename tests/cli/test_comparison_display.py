"""What a person sees while a comparison is at work."""

import io

import pytest
from rich.console import Console

from sparsify.cli.comparison_display import LiveComparison, comparison_display
from sparsify.comparison.cells import grid
from sparsify.comparison.runner import Progress

RECORD = {
    "step": 250,
    "loss": 5.125,
    "accuracy": 0.5,
    "sparsity": 0.9,
    "lambda": 0.264,
    "eer_percent": 12.5,
    "corrupted_eer_percent": 17.25,
    "selected": True,
}


@pytest.fixture
def runs():
    first, second = grid(["adabreg"], [0.9, 0.95], [0])
    running = Progress(first, 1000, "running", "training", RECORD)
    return [running, Progress(second, 1000)]


def console(width, *, terminal):
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_names_and_times_are_whole_in_terminals_of_any_width(runs, width):
    screen = console(width, terminal=True)
    display = LiveComparison(screen, "all runs")
    display.watch(runs)
    screen.file.truncate(0)
    screen.print(display.progress.get_renderable())
    everything, one = screen.file.getvalue().lstrip("\0").splitlines()
    assert "all runs" in everything
    assert "0/2 runs" in everything
    assert "adabreg-0.9-seed0 " in one
    assert "0:00:00 left" in one
    assert "250/1000" in one
    assert len(one) == width - 2  # a terminal writes ^C there
    assert "…" not in one
    assert ("17.25" in one) == (width == 160)


def test_what_a_run_does_between_its_figures_is_told(runs):
    display = LiveComparison(console(100, terminal=True), "all runs")

    def detail(doing, said, record=RECORD):
        runs[0].doing, runs[0].said, runs[0].record = doing, said, record
        display.watch(runs)
        return display.progress.tasks[1].fields["detail"]

    assert detail("training", "", {}) == "starting"
    assert detail("training", "Decoding audio: 1298 in 7 s", {}) == "Decoding audio: 1298 in 7 s"
    assert detail("training", "step    250  loss 5.125  accuracy").startswith("250/1000  loss 5.1")
    assert detail("training", "step   1000  validating") == "validating"
    assert detail("noisy", "") == "noisy"
    assert detail("noisy", "Embedding: 12/264, 9 s left") == "noisy: Embedding: 12/264, 9 s left"


def test_lines_tell_what_happens_where_there_is_no_terminal(runs):
    screen = console(200, terminal=False)
    with comparison_display(screen, "all runs") as watch:
        watch(runs)
        runs[0].state, runs[1].state, runs[1].error = "done", "failed", "it broke"
        watch(runs)
        watch(runs)
    assert screen.file.getvalue().splitlines() == [
        "adabreg-0.9-seed0: training",
        "adabreg-0.9-seed0: done",
        "adabreg-0.95-seed0: failed: it broke",
    ]
