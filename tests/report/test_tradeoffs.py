"""EER against size, work and latency."""

import numpy as np
import pytest

from sparsify.comparison.results import runs_alone
from sparsify.report.plot import styles_of
from sparsify.report.tradeoffs import tradeoffs_section

TESTS = [{"name": "clean"}, {"name": "noisy"}]


def row(method, target, width, eer, *, milliseconds=None):
    """A run whose EER is `eer` on clean speech and twice that under noise."""
    samples = np.linspace(0.5 * eer, 1.5 * eer, 1001)
    test = {"min_dcf": 0.5, "trials": 10, "trials_sha256": "t"}
    tests = {
        name: test
        | {
            "eer_percent": times * eer,
            "confidence": {
                "eer_percent": [0.5 * times * eer, 1.5 * times * eer],
                "resampled_eer_percent": (times * samples).tolist(),
            },
        }
        for name, times in (("clean", 1), ("noisy", 2))
    }
    size = 1000 * width * (1 if target is None else 1 - target)
    engine = {"engine": "native", "artifact": "sparse", "threads": 1, "median_ms": milliseconds}
    return {
        "method": method,
        "width": width,
        "target_sparsity": target,
        "seed": 0,
        "tests": tests,
        "validation": {"eer_percent": eer, "min_dcf": 0.5},
        "multiply_adds": width**2,
        "mac_sparsity": target or 0.0,
        "latency": milliseconds and {"machine": {"cpu": "x"}, "rows": [engine]},
        **dict.fromkeys(("sparsity", "global_sparsity"), target or 0.0),
        **dict.fromkeys(("eer_percent", "min_dcf", "steps", "seconds"), eer),
        **dict.fromkeys(("parameters", "nonzero", "bytes", "zipped_bytes", "bitmask_bytes"), size),
    }


def panels_of(rows):
    """The test sets of the section, each with its panels by title."""
    results = runs_alone(TESTS, {}, rows)
    drawn = tradeoffs_section(results, styles_of([each["method"] for each in rows]))
    return drawn and {
        chart.get("data-choice"): {
            cell.find("h4").text: cell for cell in chart.iter("div") if cell.get("class") == "cell"
        }
        for chart in drawn.iter("div")
        if chart.get("data-choice")
    }


def test_one_width_has_no_such_section():
    assert panels_of([row("dense", None, 8, 5.0), row("adabreg", 0.9, 8, 6.0)]) is None


def test_widths_of_dense_are_one_line_and_targets_of_a_width_another():
    rows = [
        row("dense-w8", None, 8, 5.0),
        row("dense-w32", None, 32, 3.0),
        row("dense-w16", None, 16, 4.0),
        row("adabreg-w32", 0.5, 32, 3.5),
        row("adabreg-w32", 0.9, 32, 4.5, milliseconds=2.0),
    ]
    panels = panels_of(rows)
    assert list(panels) == ["mean of all", "clean", "noisy"]
    for by_cost in panels.values():
        assert list(by_cost) == ["File size", "Work", "Latency"]
        lines = {
            group.get("data-method"): group.find("path[@class='mean']").get("d")
            for group in by_cost["Work"].iter("g")
        }
        assert {name: path.count(",") for name, path in lines.items()} == {
            "dense-w8": 3,
            "adabreg-w32": 2,
        }
        places = [float(point.split(",")[0]) for point in lines["dense-w8"][1:].split("L")]
        assert places == sorted(places)  # by cost, whatever the order they were trained in
        assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)  # octaves
        assert len([*by_cost["Latency"].iter("circle")]) <= 1


def test_the_mean_of_all_is_that_of_the_test_sets():
    panels = panels_of([row("dense-w8", None, 8, 5.0), row("dense-w16", None, 16, 4.0)])
    panel = panels["mean of all"]["File size"]
    tips = [tip for each in panel.iter() if (tip := each.get("data-tip"))]
    assert [tip.splitlines()[1] for tip in tips] == ["EER 7.50%", "EER 6.00%"]
    assert set(panels["clean"]) == {"File size", "Work"}
