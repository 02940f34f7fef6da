"""Rows, means, CSV, JSON and Markdown say the same."""

import contextlib
import csv
import io
import json
from statistics import mean

import numpy as np
import pytest
import safetensors.numpy

from sparsify.comparison.differences import differences
from sparsify.comparison.gathering import Part, gather
from sparsify.comparison.means import expected_metrics, gate_metrics, means
from sparsify.comparison.results import results_json
from sparsify.comparison.text_tables import to_csv, to_markdown
from sparsify.errors import SparsifyError


def test_rows_tell_what_the_files_hold(results, comparison):
    for row in results["runs"]:
        run = comparison / "runs" / row["run"]
        tensors = safetensors.numpy.load_file(run / "model.safetensors")
        for layer in row["layers"]:
            assert layer["nonzero"] == np.count_nonzero(tensors[layer["name"]])
            assert layer["parameters"] == tensors[layer["name"]].size
        summary = json.loads((run / "summary.json").read_text())
        for key in ("sparsity", "nonzero", "parameters", "seed", "seconds", "steps"):
            assert row[key] == summary[key]
        assert row["validation"]["eer_percent"] == summary["eer_percent"]
        assert row["eer_percent"] == row["tests"]["clean"]["eer_percent"]
        assert row["bytes"] == (run / "model.safetensors").stat().st_size
        lines = (run / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["loss"] for line in lines]
        assert row["curves"]["step"] == [1, 2, 3]
        assert row["curves"]["loss"] == pytest.approx(losses, rel=1e-5)
        assert row["zipped_bytes"] < row["bytes"]
        assert (row["bitmask_bytes"] < row["bytes"]) == (row["method"] != "dense")


def test_means_are_those_of_the_runs(results):
    assert [entry["cell"] for entry in results["means"]] == ["dense", "linbreg@0.5", "linbreg@0.9"]
    for entry in results["means"]:
        own = [
            row
            for row in results["runs"]
            if (row["method"], row["target_sparsity"])
            == (entry["method"], entry["target_sparsity"])
        ]
        assert entry["seeds"] == [row["seed"] for row in own] == [0, 1]
        for name, value in (
            ("eer_percent", lambda row: row["eer_percent"]),
            ("noisy.eer_percent", lambda row: row["tests"]["noisy"]["eer_percent"]),
            ("seconds", lambda row: row["seconds"]),
        ):
            values = [value(row) for row in own]
            spread = entry["metrics"][name]
            assert spread["mean"] == pytest.approx(mean(values))
            assert (spread["min"], spread["max"]) == (min(values), max(values))


def test_gates_know_beforehand_what_there_will_be(results, comparison_plan):
    before = expected_metrics(
        comparison_plan.runs, ["clean", "noisy"], corrupted=True, counted=True
    )
    after = gate_metrics(results["runs"])
    assert before.keys() == after.keys()
    for cell, metrics in after.items():
        assert metrics.keys() == before[cell].keys()


def test_a_gate_takes_the_nearest_count_of_zeros_for_the_target(results):
    """Counts are whole, as `inspect --min-sparsity` knows, too."""
    near, far = (results["runs"][-1] | {"sparsity": 0.9 - gap} for gap in (2e-5, 0.01))
    weights = sum(layer["parameters"] for layer in near["layers"])
    assert 1 / weights > 2e-5
    assert gate_metrics([near])["linbreg@0.9"]["sparsity"] == 0.9
    assert gate_metrics([far])["linbreg@0.9"]["sparsity"] == 0.89


def test_layers_that_have_lost_all_weights_are_named(results):
    row = results["runs"][-1]
    layers = [layer | {"nonzero": 0} for layer in row["layers"][:6]] + row["layers"][6:]
    told = to_markdown(results | {"runs": [row | {"layers": layers}]})
    names = [layer["name"] for layer in layers]
    expected = f"{', '.join(names[:4])} and 2 more layers"
    assert f"\n{row['run']}: no weight is left in {expected}.\n" in told
    assert "no weight is left" not in to_markdown(results | {"runs": results["runs"][:1]})


def test_csv_has_every_run_with_every_number(results):
    lines = list(csv.DictReader(io.StringIO(to_csv(results))))
    assert [line["run"] for line in lines] == [row["run"] for row in results["runs"]]
    for line, row in zip(lines, results["runs"], strict=True):
        for key in ("sparsity", "nonzero", "bytes", "zipped_bytes", "seconds", "min_dcf"):
            assert float(line[key]) == row[key]
        assert float(line["noisy.eer_percent"]) == row["tests"]["noisy"]["eer_percent"]
        assert line["target_sparsity"] == str(row["target_sparsity"] or "")


def test_markdown_has_a_line_per_method_and_target(results):
    head, rule, *lines, gap, tuned, blank, failure = to_markdown(results).splitlines()
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    assert rule.count("|") == head.count("|")
    assert gap == blank == ""
    assert tuned == (
        "`gmp.lr` = 0.002 was chosen at 90%, seed 0, by the mean EER on validation speech in"
        " percent, clean and corrupted: 0.001 (8.51), 0.002 (8.00), 0.004 (failed)."
    )
    assert "gmp-0.9-seed0" in failure
    assert "it broke" in failure
    for line, entry in zip(lines, results["means"], strict=True):
        cells = dict(
            zip(columns, [cell.strip() for cell in line.strip("|").split("|")], strict=True)
        )
        low, high = (entry["metrics"]["noisy.eer_percent"][end] for end in ("min", "max"))
        assert cells["method"] == entry["method"]
        assert cells["EER noisy %"] == f"{(low + high) / 2:.2f} ({low:.2f}–{high:.2f})"
        assert cells["seeds"] == "2"


def test_means_are_in_order_whatever_the_order_of_the_runs(results):
    backwards = means(reversed(results["runs"]))
    assert [entry["cell"] for entry in backwards] == ["linbreg@0.5", "linbreg@0.9", "dense"]


def test_differences_are_told_against_dense(results):
    rows = []
    for number, row in enumerate(results["runs"]):
        samples = [float(number + n % 2) for n in range(10)]
        clean = row["tests"]["clean"] | {
            "confidence": {"eer_percent": [1.0, 9.0], "resampled_eer_percent": samples}
        }
        rows.append(row | {"tests": row["tests"] | {"clean": clean}})
    told = to_markdown(results | {"differences": differences(rows, ["clean", "noisy"])})
    assert "| method | target | EER clean, against dense |" in told
    # The evaluations are 5, 6 … from run to run.
    order = [(row["method"], row["target_sparsity"]) for row in rows]
    gap = np.mean([5 + n for n, cell in enumerate(order) if cell == ("linbreg", 0.9)])
    gap -= np.mean([5 + n for n, cell in enumerate(order) if cell == ("dense", None)])
    (line,) = [line for line in told.splitlines() if line.startswith("| linbreg | 90% | **")]
    assert f"**+{gap:.2f} [+" in line


def test_intervals_over_speakers_are_told_beside_the_range_over_seeds(results):
    ends = {"noisy": {0: (3.0, 8.0), 1: (4.0, 11.0)}}
    rows = [
        row
        | {
            "tests": {
                name: test
                | ({"confidence": {"eer_percent": ends[name][row["seed"]]}} if name in ends else {})
                for name, test in row["tests"].items()
            }
        }
        for row in results["runs"]
    ]
    made = results | {"runs": rows, "means": means(rows)}
    (noisy,) = {entry["metrics"]["noisy.eer_percent_low"]["mean"] for entry in made["means"]}
    assert noisy == 3.5
    for line in to_markdown(made).splitlines()[2:5]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert "[" not in cells[4]
        assert cells[5].endswith(") [3.5–9.5]")
    assert "confidence intervals" in to_markdown(made)
    assert "confidence intervals" not in to_markdown(results)
    assert next(csv.DictReader(io.StringIO(to_csv(made))))["noisy.eer_percent_high"] == "8"


def places(value, *above):
    """The way to everything in a JSON value, lists by their first entry."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:1])
    for key, below in entries:
        yield (*above, key)
        if isinstance(below, (dict, list)):
            yield from places(below, *above, key)


def replaced(value, path, other):
    copy = json.loads(json.dumps(value))
    node = copy
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = other
    return copy


ODD = (None, True, -1, 1e300, "x", [], {})


def test_results_with_values_of_another_type_are_one_sentence_or_a_report(results, tmp_path):
    """Wherever in the file: what is of no concern may be anything."""
    content = json.loads(results_json(results | {"runs": results["runs"][-1:]}))
    skipped = {"recipe", "means", "differences", "curves"}
    read = 0
    for path in places(content):
        if skipped.isdisjoint(path[:-1]):
            for other in ODD:
                text = json.dumps(replaced(content, path, other))
                (tmp_path / "results.json").write_text(text)
                with contextlib.suppress(SparsifyError):
                    gathered = gather([Part(tmp_path / "results.json")])
                    to_csv(gathered)
                    to_markdown(gathered)
                    read += 1
    assert read > 100  # such as other texts in place of texts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["runs"][0].update(nonzero="x"), "runs.0.nonzero = 'x' does not fit"),
        (lambda r: r["runs"][0].pop("layers"), "'runs.0.layers' is missing"),
        (lambda r: r["runs"][0]["curves"]["step"].append(4), "its columns differ in length"),
        (lambda r: r["runs"][0]["tests"]["clean"].update(min_dcf=None), "tests.clean.min_dcf"),
        (lambda r: r["tuning"][0]["tried"][0].pop("error_rate"), "needs its error_rate"),
        (lambda r: r.update(failures=[]), "failures = "),
    ],
)
def test_what_is_wrong_in_results_is_named(results, tmp_path, change, message):
    content = json.loads(results_json(results))
    change(content)
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(SparsifyError, match=message):
        gather([Part(tmp_path / "results.json")])


def test_runs_with_one_seed_twice_are_not_paired(results):
    """As when comparisons with other recipes are joined."""
    rows = [row for row in results["runs"] if row["target_sparsity"] in (None, 0.9)]
    sampled = [
        row
        | {"tests": {"clean": {"eer_percent": 5, "confidence": {"resampled_eer_percent": [5, 6]}}}}
        for row in [rows[0], *rows]
    ]
    assert all(each["by_seed"] is None for each in differences(sampled, ["clean"]))
