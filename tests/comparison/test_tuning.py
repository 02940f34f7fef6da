"""What is trained to choose an option, and what is chosen."""

import json

import pytest

from sparsify.comparison.cells import grid
from sparsify.comparison.plan import Plan, Tuning, read_plan
from sparsify.comparison.tuning import fatal_failures, tuned_plan, tuning_plan, tuning_rows
from sparsify.comparison.wording import tuning_text
from sparsify.errors import SparsifyError
from sparsify.methods.magnitude import GMP
from sparsify.recipe.recipe import Recipe

LR = Tuning(method="gmp", option="lr", values=(0.001, 0.002, 0.004))


@pytest.fixture
def plan():
    return Plan(
        recipe=Recipe(methods={"gmp": {"end": 0.5}}),
        runs=tuple(grid(["dense", "gmp"], [0.9, 0.5], [3, 4])),
        tests=(),
        tunings=(LR,),
    )


def finish(output, name, sparsity, clean, corrupted):
    run = output / "runs" / name
    run.mkdir(parents=True)
    figures = {"eer_percent": clean, "corrupted_eer_percent": corrupted, "min_dcf": 0.5}
    figures |= {"sparsity": sparsity, "global_sparsity": sparsity, "seconds": 1.0, "device": "cpu"}
    counts = dict.fromkeys(("parameters", "nonzero", "steps", "epochs", "selected_step"), 1)
    (run / "summary.json").write_text(json.dumps(figures | counts))


def test_the_first_run_of_a_method_is_tried_with_every_value(plan):
    trials = tuning_plan(plan)
    assert [cell.name for cell in trials.runs] == [
        f"gmp-0.9-seed3-lr={value}" for value in (0.001, 0.002, 0.004)
    ]
    recipe = trials.recipe_of(trials.runs[0])
    assert (recipe.seed, recipe.target_sparsity) == (3, 0.9)
    assert recipe.options == GMP.Options(end=0.5, lr=0.001)


def test_the_lowest_mean_error_on_validation_speakers_is_chosen(plan, tmp_path):
    finish(tmp_path, "gmp-0.9-seed3-lr=0.001", 0.9, 5.0, 12.0)
    finish(tmp_path, "gmp-0.9-seed3-lr=0.002", 0.9, 6.0, 10.0)
    rows = tuning_rows(plan, tmp_path, {"gmp-0.9-seed3-lr=0.004": "diverged"})
    (row,) = rows
    assert row["chosen"] == 0.002
    assert (row["target_sparsity"], row["seed"]) == (0.9, 3)
    assert [each.get("error_rate") for each in row["tried"]] == [8.5, 8.0, None]
    assert row["tried"][2]["error"] == "diverged"
    tuned = tuned_plan(plan, rows)
    assert [cell.name for cell in tuned.runs] == [
        "dense-seed3",
        "gmp-0.9-seed3-lr=0.002",  # what was trained to choose it
        "gmp-0.5-seed3-lr=0.002",
        "dense-seed4",
        "gmp-0.9-seed4-lr=0.002",
        "gmp-0.5-seed4-lr=0.002",
    ]


@pytest.mark.parametrize(
    ("best", "words"),
    [
        (0.001, "smallest value tried: a smaller"),
        (0.002, ""),
        (0.004, "largest value tried: a larger"),
    ],
)
def test_a_choice_at_the_edge_is_said_to_be_one(plan, tmp_path, best, words):
    for value in LR.values:
        finish(tmp_path, f"gmp-0.9-seed3-lr={value}", 0.9, 5.0 + (value != best), 8.0)
    (row,) = tuning_rows(plan, tmp_path, {})
    text = tuning_text(row)
    assert words in text
    assert ("It is the" in text) == bool(words)


def test_the_best_of_words_is_at_no_edge(plan, tmp_path):
    words = Tuning(method="gmp", option="allocation", values=("erk", "global"))
    finish(tmp_path, "gmp-0.9-seed3-allocation=erk", 0.9, 5.0, 8.0)
    finish(tmp_path, "gmp-0.9-seed3-allocation=global", 0.9, 6.0, 8.0)
    (row,) = tuning_rows(plan.model_copy(update={"tunings": (words,)}), tmp_path, {})
    assert row["chosen"] == "erk"
    assert "It is the" not in tuning_text(row)


def test_a_model_that_misses_its_target_is_not_chosen(plan, tmp_path):
    """As a λ that was fixed by hand may give; hairs are not split about it."""
    finish(tmp_path, "gmp-0.9-seed3-lr=0.001", 0.7, 1.0, 1.0)
    finish(tmp_path, "gmp-0.9-seed3-lr=0.002", 0.903, 6.0, 6.0)
    finish(tmp_path, "gmp-0.9-seed3-lr=0.004", 0.8999, 7.0, 7.0)
    assert tuning_rows(plan, tmp_path, {})[0]["chosen"] == 0.002


def test_a_method_with_nothing_to_choose_from_takes_no_other_with_it(plan, tmp_path):
    failures = {f"gmp-0.9-seed3-lr={value}": "diverged" for value in LR.values}
    rows = tuning_rows(plan, tmp_path, failures)
    assert rows[0]["chosen"] is None
    assert [cell.name for cell in tuned_plan(plan, rows).runs] == ["dense-seed3", "dense-seed4"]
    assert fatal_failures(rows) == failures
    assert "No value of `gmp.lr` could be chosen at 90%" in tuning_text(rows[0])


def test_survives_the_disk(plan, tmp_path):
    words = Tuning(method="gmp", option="allocation", values=("global", "erk"))
    plan = plan.model_copy(update={"tunings": (words,)})
    tuned = tuned_plan(plan, [{"method": "gmp", "option": "allocation", "chosen": "erk"}])
    tuned.write(tmp_path)
    assert read_plan(tmp_path) == tuned


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        ({"method": "rigl"}, "'rigl' is not compared"),
        ({"method": "gpm"}, "did you mean 'gmp'"),
        ({"option": "lrr"}, "--tune gmp.lrr: .*unknown key 'lrr', did you mean 'lr'"),
        ({"values": (0.1, -0.1)}, "lr = -0.1 does not fit"),
    ],
)
def test_a_wrong_tuning_is_refused(plan, tuning, words):
    wrong = LR.model_copy(update=tuning)
    with pytest.raises(SparsifyError, match=words):
        plan.model_copy(update={"tunings": (wrong,)}).check()
