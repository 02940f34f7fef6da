"""Recipes: shipped ones load, mistakes become sentences, the resolved form is stable."""

import pytest

from sparsify import SparsifyError
from sparsify.methods.registry import method_options
from sparsify.recipe import load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_is_valid_and_survives_yaml(name, tmp_path):
    recipe = load_recipe(name)
    method_options(recipe)
    assert recipe.name == name
    (tmp_path / "copy.yaml").write_text(recipe.to_yaml(), "utf-8")
    assert load_recipe(tmp_path / "copy.yaml") == recipe


def test_assignments_and_changes_apply_in_order():
    recipe = load_recipe(
        "quickstart",
        ["training.steps=7", "model.options={channels: 16}", "target_sparsity=0.5"],
        {"target_sparsity": 0.75},
    )
    assert recipe.training.steps == 7
    assert recipe.model.options == {"channels": 16}
    assert recipe.target_sparsity == 0.75


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.step=7", "did you mean 'steps'"),
        ("trainng.steps=7", "did you mean 'training'"),
        ("target_sparsity=1.5", "target_sparsity = 1.5 does not fit"),
        ("target_sparsity=0", "greater than 0"),
        ("training.batch_size=many", "training.batch_size"),
        ("augment.snr_db=[20, 0]", "must not exceed"),
        ("objective.margin_ramp=[0.5, 0.2]", "must not exceed"),
        ("training", "key=value"),
        ("name.x=1", "not a section"),
        ("training.steps=[", "YAML"),
    ],
)
def test_mistakes_are_named(assignment, message):
    with pytest.raises(SparsifyError, match=message):
        load_recipe("quickstart", [assignment])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "adabrag"}, "did you mean 'adabreg'"),
        ({"method": "sgd"}, "known: adabreg"),
        ({"methods.adabreg.laning": 1}, "did you mean 'landing'"),
        ({"methods.adabreg.lr": -1}, "methods.adabreg: lr = -1"),
        ({"methods.adabreg.lambda_rule": "fixed"}, "lambda_value"),
        ({"methods.nosuch.lr": 1}, "unknown method 'nosuch'"),
    ],
)
def test_method_mistakes_are_named(changes, message):
    with pytest.raises(SparsifyError, match=message):
        method_options(load_recipe("quickstart", changes=changes))


@pytest.mark.parametrize("content", ["- a list", "key: [", ""])
def test_malformed_file_is_named(content, tmp_path):
    (tmp_path / "bad.yaml").write_text(content, "utf-8")
    with pytest.raises(SparsifyError, match=r"bad\.yaml"):
        load_recipe(tmp_path / "bad.yaml")


def test_unknown_recipe_lists_the_shipped_ones():
    with pytest.raises(SparsifyError, match="quickstart"):
        load_recipe("nosuch")
