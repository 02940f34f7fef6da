"""Recipes: shipped ones load, mistakes become sentences, the resolved form is stable."""

import contextlib
import itertools

import pytest

from sparsify import SparsifyError
from sparsify.methods.registry import resolve
from sparsify.recipe.layout import abridged
from sparsify.recipe.recipe import LEFT_OUT, Recipe, load_recipe, parse_recipe
from sparsify.recipe.validation import Section
from sparsify.recipe.words import recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_is_valid_and_survives_yaml(name, tmp_path):
    recipe = load_recipe(name)
    resolve(recipe)
    assert recipe.name == name
    (tmp_path / "copy.yaml").write_text(recipe.to_yaml(), "utf-8")
    assert load_recipe(tmp_path / "copy.yaml") == recipe


def test_options_survive_yaml(tmp_path):
    recipe = load_recipe(
        "quickstart",
        ["method=adabreg-fixed", "methods.adabreg-fixed.lambda_value={0.9: 2, 0.95: 4}"],
        {"model.options": {"blocks": (1, 2)}},
    )
    (tmp_path / "copy.yaml").write_text(recipe.to_yaml(), "utf-8")
    copy = load_recipe(tmp_path / "copy.yaml")
    assert copy == recipe
    assert resolve(copy).options.lambda_value == {0.9: 2, 0.95: 4}


@pytest.mark.parametrize(
    ("settings", "compiles"),
    [
        ({}, True),
        ({"steps": 60}, False),
        ({"steps": 60, "compile": True}, True),
        ({"compile": False}, False),
        ({"quantisation_aware": True}, False),
    ],
)
def test_only_a_long_training_is_compiled_unless_told_so(settings, compiles):
    changes = {f"training.{key}": value for key, value in settings.items()}
    assert load_recipe("speech-mini", changes=changes).training.compiles == compiles


def test_a_recipe_without_paths_tells_what_was_read():
    paths = ("data.path", "model.init_from", "augment.noise", "augment.reverb")
    paths = dict.fromkeys([*paths, "distillation.teacher"], "/home/ann/speech")
    recipe = load_recipe("quickstart", ["seed=5"], paths)
    shipped = recipe.without_paths()
    assert "/home" not in shipped.to_yaml()
    assert shipped.to_yaml().count(LEFT_OUT) == len(paths)
    assert load_recipe("quickstart", ["seed=5"], dict.fromkeys(paths, LEFT_OUT)) == shipped
    # That nothing was read is still said.
    for nothing in (load_recipe("quickstart"), resolve(load_recipe("quickstart"))):
        assert nothing.without_paths() == nothing


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
        ("training.step=7", "did you mean 'training.steps'"),
        ("trainng.steps=7", "did you mean 'training'"),
        ("target_sparsity=1.5", "target_sparsity = 1.5 does not fit"),
        ("target_sparsity=0", "it must be more than 0$"),
        ("training.batch_size=many", "training.batch_size = 'many' .* it must be a whole number$"),
        ("training.batch_size=1.5", "it must be a whole number$"),
        ("training.batch_size=0", "it must be [0-9] or more$"),
        ("training.precision=fp8", "it must be 'auto', 'fp32', 'bf16' or 'fp16'$"),
        ("data.crop_seconds=long", "it must be a number$"),
        ("augment.speeds=1", r"it must be a list$"),
        ("augment.snr_db=[0, 10, 20]", "it must have 2 values or fewer$"),
        ("augment.snr_db=[0]", "augment.snr_db must have 2 values$"),
        ("augment.snr_db=[]", "augment.snr_db must have 2 values$"),
        ("seed=2147483648", "it must be less than 2147483648$"),
        ("training=fast", "it must be a section"),
        ("name=7", "it must be text$"),
        ("augment.snr_db=[20, 0]", "must not exceed"),
        ("objective.margin_ramp=[0.5, 0.2]", "must not exceed"),
        ("target_sparsity=90", r"it must be less than 1 \(90% is 0.9\)"),
        ("augment.probability=1000", "it must be 1 or less$"),
        ("training.steps=true", "steps = True does not fit: true and false are no numbers"),
        ("augment.snr_db=[false, 10]", "true and false are no numbers"),
        ("training.lr=0.1", "did you mean 'methods.adabreg.lr'"),
        ("training.margin=0.1", "did you mean 'objective.margin'"),
        ("training.nothing=0.1", "known: steps, batch_size"),
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
        ({"method": "gmp", "methods.gmp.begin": 0.7}, "begin 0.7 must be less than end 0.6"),
        ({"method": "granet", "methods.granet.group": "output"}, "granet: group = 'output'"),
    ],
)
def test_method_mistakes_are_named(changes, message):
    with pytest.raises(SparsifyError, match=message):
        resolve(load_recipe("quickstart", changes=changes))


@pytest.mark.parametrize("content", ["- a list", "key: [", ""])
def test_malformed_file_is_named(content, tmp_path):
    (tmp_path / "bad.yaml").write_text(content, "utf-8")
    with pytest.raises(SparsifyError, match=r"bad\.yaml"):
        load_recipe(tmp_path / "bad.yaml")


def test_unknown_recipe_lists_the_shipped_ones():
    with pytest.raises(SparsifyError, match=r"known: .*quickstart"):
        load_recipe("nosuch")
    with pytest.raises(SparsifyError, match="did you mean 'quickstart'"):
        load_recipe("quickstrat")


def test_a_recipe_extends_another(tmp_path):
    (tmp_path / "parent.yaml").write_text(
        "extends: speech-mini\nname: parent\ntraining: {steps: 7}\n", "utf-8"
    )
    (tmp_path / "child.yaml").write_text(
        "extends: parent.yaml\ntraining: {batch_size: 8}\nmodel: {options: {channels: 16}}", "utf-8"
    )
    child, base = load_recipe(tmp_path / "child.yaml"), load_recipe("speech-mini")
    assert (child.training.steps, child.training.batch_size) == (7, 8)
    assert child.model.options == base.model.options | {"channels": 16}
    assert child.methods == base.methods
    assert child.name == "parent"
    assert load_recipe("resnet34-voxceleb").training == load_recipe("ecapa512-voxceleb").training


def test_a_circle_of_recipes_is_named(tmp_path):
    for name, parent in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {parent}.yaml", "utf-8")
    with pytest.raises(SparsifyError, match="extends itself"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("extends: nosuch.yaml", "utf-8")
    with pytest.raises(SparsifyError, match="nosuch"):
        load_recipe(tmp_path / "a.yaml")


def test_recipes_that_extend_each_other_without_end_are_refused(tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml", "utf-8")
    with pytest.raises(SparsifyError, match="16th of recipes that extend"):
        load_recipe(tmp_path / "0.yaml")


@pytest.mark.parametrize(
    "content",
    [
        "name: &a " + "[" * 5000 + "]" * 5000,
        "a: &a [x, x]\n"
        + "\n".join(
            f"{c}: &{c} [*{b}, *{b}]" for b, c in itertools.pairwise("abcdefghijklmnopqrstuvwxyz")
        ),
        "seed: " + "9" * 5000,
        "name: 2024-13-45",
        "name: !!binary AAAA",
        "? {a: 1}\n: 2",
        "extends: [quickstart]",
        "extends: " + "x" * 5000,
        "name: " + "x" * 300_000,
        "seed: " + "x" * 200_000,
        "x" * 200_000 + ": 1",
        "name: a\0b",
        'name: "a\\0b"',
        'name: "\\ud800"',
        "null: 1",
        "5: 1",
        "2024-01-01: 1",
    ],
)
def test_odd_recipes_are_one_short_sentence(content, tmp_path):
    (tmp_path / "bad.yaml").write_text(content, "utf-8")
    with pytest.raises(SparsifyError) as caught:
        load_recipe(tmp_path / "bad.yaml")
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def paths(section, *above):
    """The keys of every setting."""
    for name, field in section.model_fields.items():
        yield (*above, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from paths(field.annotation, *above, name)


def test_no_value_of_a_setting_is_more_than_a_sentence(tmp_path):
    odd = ["2024-01-01", "!!binary gA==", "!!set {a, b}", "{1: 2}", "{null: 2}", "[[1]]", "-1", "x"]
    odd += [
        ".inf",
        ".nan",
        "1e308",
        "9007199254740993",
        "{a: {b: [.nan]}}",
        '"\\ud800"',
        "true",
        "",
    ]
    for path, value in itertools.product(paths(Recipe), odd):
        with contextlib.suppress(SparsifyError):
            recipe = load_recipe("quickstart", [f"{'.'.join(path)}={value}"])
            (tmp_path / "copy.yaml").write_text(recipe.to_yaml(), "utf-8")
            assert load_recipe(tmp_path / "copy.yaml") == recipe


@pytest.mark.parametrize("content", [None, 5, [], "text", {1: 2}])
def test_what_is_no_mapping_is_no_recipe(content):
    with pytest.raises(SparsifyError, match="recipe 'odd'"):
        parse_recipe(content, "odd")


WIDTHS = {
    "conv1.weight": [2, 1, 3, 3],
    "bn1.weight": [2],
    "bn1.bias": [2],
    "sum.first": "0110",
    "scale": [2],
}


def test_widths_take_a_line_for_each_layer_and_load_in_either_form(tmp_path):
    recipe = load_recipe("quickstart", changes={"model.widths": WIDTHS})
    text = recipe.to_yaml()
    assert "\n    conv1: {weight: [2, 1, 3, 3]}\n    bn1: {weight: [2], bias: [2]}\n" in text
    (tmp_path / "copy.yaml").write_text(text, "utf-8")
    assert load_recipe(tmp_path / "copy.yaml") == recipe
    assert parse_recipe(recipe.model_dump(mode="json"), "again") == recipe
    assert recipe.model.widths == WIDTHS


def test_many_widths_are_shown_by_their_number():
    shown = abridged(load_recipe("quickstart", changes={"model.widths": WIDTHS}).model_dump())
    assert shown["model"]["widths"] == "4 layers narrowed"
    with pytest.raises(SparsifyError, match=r"model\.widths.*layers narrowed.*does not fit"):
        parse_recipe(shown, "shown")
