"""What a person sees of a training, without a training."""

import io

import pytest
from rich.console import Console

from sparsify.cli.training_display import LiveDisplay, PlainDisplay, sparkline

HEADER = {
    "method": "adabreg",
    "target_sparsity": 0.9,
    "compute": "cpu",
    "compiled": False,
    "processes": 1,
    "model": "ecapa-tdnn",
    "model_options": {},
    "parameters": 1000,
    "prunable": 900,
    "left_dense": [],
    "data": "synthetic",
    "speakers": 8,
    "utterances": 80,
    "hours": 0.1,
    "validation_speakers": 2,
    "validation_trials": 10,
    "skipped": 0,
    "steps": 4000,
}


def record(step, **more):
    figures = {"loss": 9.0 - step / 1000, "accuracy": 0.5, "sparsity": step / 4000}
    return {"step": step, **figures, "lambda": 0.1 + step / 10_000, **more}


VALIDATED = record(
    3000, eer_percent=12.5, corrupted_eer_percent=17.25, selected=True, distillation=1.2, macs=0.3
)


def console(*, terminal, encoding="utf-8", width=60):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace", write_through=True)
    return Console(file=file, width=width, force_terminal=terminal, color_system=None)


def shown(display, screen):
    """What stands in the terminal now, drawn on another one."""
    paper = console(terminal=False, encoding=screen.encoding)
    paper.print(display.live.get_renderable())
    paper.file.seek(0)
    return paper.file.read().splitlines()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_the_live_view_fits_a_narrow_terminal(encoding):
    screen = console(terminal=True, encoding=encoding)
    display = LiveDisplay(screen)
    display.started(HEADER, 0)
    try:
        for step in (1000, 2000):
            display.stepped(step)
            display.logged(record(step))
        display.stepped(3000)
        display.began("validating")
        waiting = shown(display, screen)
        display.logged(VALIDATED)
        display.stepped(3001)
        training = shown(display, screen)
    finally:
        display.live.stop()
    assert "training" in waiting[0]
    assert "3000/4000" in waiting[0]
    assert waiting[1].split()[1:] == ["validating", "0:00:00"]
    assert not any("validating" in line for line in training)
    assert max(map(len, waiting + training)) == 58  # a terminal writes ^C there
    ends = {"utf-8": "▁▅█", "latin-1": "_+#"}[encoding]
    graphs = [line.split() for line in training[1:4]]
    assert graphs[0] == ["loss", ends[::-1], "6.000"]
    assert graphs[1] == ["sparsity", ends, "75.00%"]
    assert graphs[2][1:] == [ends, "0.4"]
    rest = " ".join(" ".join(training[4:]).split())
    assert rest == "accuracy 50.0% distillation 1.200 MACs 30.00% EER 12.50%, corrupted 17.25%"


def test_a_log_names_every_phase_and_repeats_no_line():
    screen = console(terminal=False, width=160)
    display = PlainDisplay(screen)
    display.started(HEADER, 0)
    for step in (1000, 2000, 3000):
        display.stepped(step)
        display.began("validating")
        display.logged(record(step) if step < 3000 else VALIDATED)
    display.began("computing the mean embedding")
    screen.file.seek(0)
    lines = screen.file.read().splitlines()
    assert len(lines) == len({*lines})
    assert "step   3000  validating" in lines
    assert lines[-1] == "step   3000  computing the mean embedding"


def test_sparklines_are_means_of_neighbours():
    assert sparkline([], 5, "_-=") == ""
    assert sparkline([1.0], 0, "_-=") == ""
    assert sparkline([3.0, 3.0], 5, "_-=") == "__"
    assert sparkline([0.0, 1.0, 2.0], 5, "_-=") == "_-="
    assert sparkline([0.0, 0.0, 1.0, 1.0, 4.0, 0.0], 3, "_-=") == "_-="
