import pytest

from sparsify.comparison.cells import grid
from sparsify.comparison.plan import Plan, Tuning, read_plan, shared_recipe
from sparsify.comparison.test_sets import TestSet
from sparsify.errors import SparsifyError
from sparsify.methods.dense import Dense
from sparsify.methods.magnitude import GMP
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.sections import ModelSection


def test_runs_differ_in_nothing_but_method_target_and_seed():
    base = shared_recipe(Recipe(method="gmp", target_sparsity=0.7, seed=5, name="mine"))
    runs = tuple(grid(["dense", "adabreg"], [0.5, 0.9], [0, 1]))
    plan = Plan(recipe=base, runs=runs, tests=())
    for cell in runs:
        recipe = plan.recipe_of(cell)
        assert recipe.method == cell.method
        assert recipe.seed == cell.seed
        assert cell.target_sparsity in (None, recipe.target_sparsity)
        own = {"method", "target_sparsity", "seed", "methods"}
        assert recipe.model_dump(exclude=own) == base.model_dump(exclude=own)


def test_survives_the_disk(tmp_path):
    test = TestSet(name="clean", trials="trials.txt", audio_root="test")
    plan = Plan(recipe=Recipe(), runs=tuple(grid(["adabreg"], [0.9], [0])), tests=(test,))
    assert read_plan(tmp_path) is None
    plan.write(tmp_path)
    assert read_plan(tmp_path) == plan


def test_what_would_fail_at_the_end_is_refused_at_the_start(tmp_path):
    (tmp_path / "trials.txt").write_text("1 a b\n")

    def check(recipe=None, name="clean", trials="trials.txt", root=""):
        test = TestSet(name=name, trials=str(tmp_path / trials), audio_root=str(tmp_path / root))
        runs = tuple(grid(["gmp"], [0.9], [0]))
        Plan(recipe=recipe or Recipe(), runs=runs, tests=(test,)).check()

    for words, arguments in (
        ("nontarget", {}),
        ("no trial list", {"trials": "nothing.txt"}),
        ("no folder", {"root": "nowhere"}),
        ("taken", {"name": "validation"}),
        ("unknown key 'begn'", {"recipe": Recipe(methods={"gmp": {"begn": 0.1}})}),
    ):
        with pytest.raises(SparsifyError, match=words):
            check(**arguments)


def test_a_lambda_for_several_targets_is_not_tuned_at_one():
    recipe = Recipe(methods={"adabreg-fixed": {"lambda_value": 0.1}})
    tuning = Tuning(method="adabreg-fixed", option="lambda_value", values=(0.1, 0.2))
    runs = grid(["adabreg-fixed"], [0.9, 0.99], [0])
    with pytest.raises(SparsifyError, match="no value is right for several targets"):
        Plan(recipe=recipe, runs=tuple(runs), tests=(), tunings=(tuning,)).check()
    Plan(recipe=recipe, runs=tuple(runs[:1]), tests=(), tunings=(tuning,)).check()
    rate = Tuning(method="adabreg-fixed", option="lr", values=(0.1, 0.2))
    Plan(recipe=recipe, runs=tuple(runs), tests=(), tunings=(rate,)).check()


def test_a_run_knows_the_options_of_its_own_method_alone():
    recipe = Recipe(methods={"gmp": {"lr": 0.01, "end": 0.5}, "adabreg": {"lr": 0.02}})
    plan = Plan(recipe=recipe, runs=tuple(grid(["gmp", "dense"], [0.9], [0])), tests=())
    gmp, dense = plan.runs
    assert plan.recipe_of(gmp).options == GMP.Options(lr=0.01, end=0.5)
    assert list(plan.recipe_of(gmp).methods) == ["gmp"]
    assert plan.recipe_of(dense).options == Dense.Options()
    other = gmp.model_copy(update={"options": (("lr", 0.03),)})
    assert plan.recipe_of(other).options == GMP.Options(lr=0.03, end=0.5)
    assert other.name == "gmp-0.9-seed0-lr=0.03"
    assert other.label == "gmp@0.9"


def test_at_another_width_the_network_follows_and_wider_ones_have_smaller_rates():
    recipe = Recipe(
        model=ModelSection(name="ecapa-tdnn", options={"channels": 64, "aggregation_channels": 96}),
        methods={"dense": {"lr": 0.01, "weight_decay": 0.5}},
    )
    plan = Plan(recipe=recipe, runs=tuple(grid(["dense"], [], [0], [16, 128])), tests=())
    narrow, wide = (plan.recipe_of(cell) for cell in plan.runs)
    assert narrow.model.options == {
        "channels": 16,
        "aggregation_channels": 24,
        "se_channels": 32,
        "attention_channels": 32,
    }
    assert narrow.options == Dense.Options(lr=0.01, weight_decay=0.5)
    assert wide.options == Dense.Options(lr=0.005, weight_decay=0.5)
    assert [cell.name for cell in plan.runs] == ["dense-w16-seed0", "dense-w128-seed0"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "ecapa-tdnn"}, "channels must be a positive multiple of 8: 12"),
        ({"name": "torch.nn:Identity"}, "no option 'channels'"),
        ({"name": "ecapa-tdnn", "init_from": "run"}, "has its own width"),
        ({"name": "resnet18", "widths": {"bn1.bias": [3]}}, "a shrunk network has its own width"),
    ],
)
def test_a_width_that_no_network_has_is_refused_before_training(tmp_path, model, words):
    (tmp_path / "run").mkdir()
    if "init_from" in model:
        model |= {"init_from": str(tmp_path / "run")}
    recipe = Recipe(model=ModelSection(**model))
    plan = Plan(recipe=recipe, runs=tuple(grid(["dense"], [], [0], [12])), tests=())
    with pytest.raises(SparsifyError, match=words):
        plan.check()


def test_a_fixed_lambda_for_every_target_is_asked_for_at_once():
    recipe = Recipe(methods={"linbreg-fixed": {"lambda_value": {0.9: 1.0}}})
    plan = Plan(recipe=recipe, runs=tuple(grid(["linbreg-fixed"], [0.9, 0.95], [0])), tests=())
    with pytest.raises(SparsifyError, match=r"no λ for target_sparsity 0\.95"):
        plan.check()


@pytest.mark.parametrize("key", ["data.path", "model.init_from", "distillation.teacher"])
def test_what_the_runs_need_must_be_there(key, tmp_path):
    section, name = key.split(".")
    recipe = Recipe.model_validate({section: {name: str(tmp_path / "nowhere")}})
    plan = Plan(recipe=recipe, runs=tuple(grid(["adabreg"], [0.9], [0])), tests=())
    with pytest.raises(SparsifyError, match=f"{key}.*nowhere"):
        plan.check()
