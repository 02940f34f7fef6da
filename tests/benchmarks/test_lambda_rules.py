"""The study of the λ rules: its measures, its books and its figures, without its hours."""

import json

import pytest

from sparsify.benchmarks import lambda_rules
from sparsify.benchmarks.lambda_rules import (
    BATCH_NORM,
    STUDIES,
    Case,
    cases,
    measures,
    read_rows,
    run_one,
    thinned,
    write_rows,
)
from sparsify.benchmarks.lambda_rules_plot import markdown, write_plots
from sparsify.errors import SparsifyError
from sparsify.methods.registry import resolve
from sparsify.recipe.recipe import load_recipe

CASE = Case("rules", "adabreg", "adaptive", 0.9, 0)
HEAD = {"data": "synthetic", "recipe": {}}


def trajectory(*sparsities, every=10):
    return [
        {"step": every * n, "sparsity": sparsity, "lambda": float(n), "weight_norm": 10.0 / n}
        for n, sparsity in enumerate(sparsities, 1)
    ]


def row(case=CASE, **figures):
    records = trajectory(0.99, 0.9, 0.91, 0.9)
    complete = {"diverged": False} | measures(records, case.target, 40) | thinned(records)
    return vars(case) | complete | figures


def test_measures_of_a_trajectory_that_settles():
    # It comes near at 20, leaves again and stays from 40 on; the last quarter is after 60.
    records = trajectory(0.99, 0.903, 0.91, 0.896, 0.9, 0.9, 0.901, 0.899)
    assert measures(records, 0.9, 80) == {
        "settled_at": 0.5,
        "overshoot_points": 1.0,
        "oscillation_points": 0.1,
        "lambda_final": 8.0,
        "lambda_max": 8.0,
        "weight_norm_final": 1.25,
    }


def test_measures_of_a_trajectory_that_does_not():
    always_off = measures(trajectory(0.99, 0.97, 0.95, 0.93), 0.9, 40)
    assert always_off["settled_at"] is None
    assert always_off["overshoot_points"] is None
    leaves = measures(trajectory(0.99, 0.9, 0.9, 0.88), 0.9, 40)
    assert leaves["settled_at"] is None
    assert leaves["overshoot_points"] == 0
    assert set(measures([], 0.9, 40).values()) == {None}


def test_what_is_not_finite_stays_out_of_the_json():
    records = trajectory(0.9, 0.9)
    records[1] |= {"lambda": float("inf"), "weight_norm": float("nan")}
    found = measures(records, 0.9, 20) | thinned(records)
    assert found["lambda_final"] is None
    assert found["weight_norm"] == [10.0, None]
    json.dumps(found, allow_nan=False)


def test_long_trajectories_are_thinned_but_keep_their_ends():
    columns = thinned(trajectory(*[0.123456789] * 1000, every=1))
    assert len(columns["steps"]) == lambda_rules.POINTS
    assert (columns["steps"][0], columns["steps"][-1]) == (1, 1000)
    assert columns["sparsity"] == [0.12346] * lambda_rules.POINTS
    assert thinned(trajectory(0.9))["steps"] == [10]


def test_the_matrix():
    matrix = list(cases(STUDIES))
    assert len(matrix) == len({case.name for case in matrix}) == 24 + 24 + 24 + 4 + 6
    assert {case.seed for case in cases(["rules"], [3, 4])} == {3, 4}
    for case in matrix:
        recipe = case.recipe("synthetic")
        resolve(recipe)
        settings = recipe.methods[case.method]
        shipped = load_recipe("speech-mini").methods[case.method]
        options = STUDIES[case.study].rules[case.rule]
        assert settings == shipped | {k: v for k, v in options.items() if "." not in k}
        assert recipe.training.batch_norm_batches == options[BATCH_NORM]


def test_rows_survive(tmp_path):
    path = tmp_path / "new" / "results.json"
    assert read_rows(path, HEAD) == []
    write_rows(path, HEAD, [row(), row(seconds=1.0)])
    assert read_rows(path, HEAD) == [row(), row(seconds=1.0)]
    assert len(path.read_text().splitlines()) == 8
    with pytest.raises(SparsifyError, match="give another --output"):
        read_rows(path, HEAD | {"data": "speech-mini"})


def test_what_is_done_is_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(lambda_rules.VARIABLE, raising=False)
    runs = []
    monkeypatch.setattr(
        lambda_rules, "_in_process", lambda name: runs.append(name) or row(by_name[name])
    )
    by_name = {case.name: case for case in cases(["ablations"])}
    output = tmp_path / "results.json"
    command = ["lambda_rules", "--work", str(tmp_path), "--output", str(output)]
    monkeypatch.setattr("sys.argv", [*command, "--studies", "ablations"])
    lambda_rules.main()
    assert sorted(runs) == sorted(by_name)
    content = json.loads(output.read_text())
    kept = [r for r in content["rows"] if r["method"] == "adabreg"]
    output.write_text(json.dumps(content | {"rows": kept}))
    runs.clear()
    lambda_rules.main()
    assert sorted(runs) == sorted(name for name in by_name if "linbreg" in name)
    assert json.loads(output.read_text())["rows"][:3] == kept
    assert "| ablations | linbreg | rescale | 90% |" in capsys.readouterr().out


@pytest.fixture
def quick(monkeypatch):
    """A training of a second."""
    settings = {
        "model.options": {"channels": 8, "aggregation_channels": 16, "embedding_dim": 8},
        "data.synthetic_speakers": 5,
        "data.synthetic_utterances": 2,
        "data.validation_speakers": 2,
        "data.crop_seconds": 0.3,
        "training.steps": 8,
        "training.batch_size": 4,
        "training.log_every": 1,
        "training.validate_every": 4,
    }
    for key, value in settings.items():
        monkeypatch.setitem(lambda_rules.TINY, key, value)


def test_a_run_is_measured_before_it_lands_and_trained_once(quick, tmp_path, monkeypatch):
    first = run_one(CASE, tmp_path, None)
    assert vars(CASE).items() <= first.items()
    assert first["options"]["landing"] == 1
    assert first["steps"] == list(range(1, 8))
    assert first["delivered_sparsity"] == pytest.approx(0.9, abs=0.001)
    assert first["final_error_points"] == pytest.approx(100 * (first["sparsity"][-1] - 0.9), abs=2)
    monkeypatch.setattr(lambda_rules, "train", None)
    assert run_one(CASE, tmp_path, None) == first
    monkeypatch.setitem(lambda_rules.TINY, "training.steps", 9)
    with pytest.raises(SparsifyError, match="give another --work"):
        run_one(CASE, tmp_path, None)


def test_a_run_with_landing_is_measured_whole(quick, tmp_path):
    found = run_one(Case("landed", "linbreg", "quantile", 0.9, 1), tmp_path, None)
    assert found["steps"] == list(range(1, 9))


@pytest.mark.parametrize("error", ["training diverged before step 5", "the trials are broken"])
def test_a_divergence_is_a_row_and_other_errors_are_errors(quick, tmp_path, monkeypatch, error):
    train = lambda_rules.train

    def fail(recipe, output, **options):
        train(recipe, output, **options)
        metrics = output / "metrics.jsonl"
        metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:4]))
        raise SparsifyError(error)

    monkeypatch.setattr(lambda_rules, "train", fail)
    if "diverged" not in error:
        with pytest.raises(SparsifyError, match=error):
            run_one(CASE, tmp_path, None)
        return
    found = run_one(CASE, tmp_path, None)
    assert found["diverged"]
    assert found["steps"] == [1, 2, 3, 4]
    assert "seconds" not in found


def test_the_table_averages_over_seeds():
    rows = [
        row(Case("landed", "adabreg", "quantile", 0.9, seed), settled_at=at, diverged=seed == 2)
        for seed, at in enumerate([0.2, 0.4, None])
    ]
    line = markdown(rows).splitlines()[-1]
    assert line.startswith("| landed | adabreg | quantile | 90% | – | – |")
    assert "| 0.30 (0.20–0.40) in 2 of 3 |" in line
    assert line.endswith("| 3 | 1 |")


def test_figures_are_written(tmp_path):
    pytest.importorskip("matplotlib", reason="figures need the extra 'study'")
    write_plots([row(case) for case in cases(STUDIES)], tmp_path)
    for name in ("sparsity", "lambda", "default", "ablations"):
        content = (tmp_path / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert int.from_bytes(content[16:20], "big") == 1200
