"""The reference of recipes is that of their schema."""

from pathlib import Path

import pytest

from sparsify.methods.names import method_names
from sparsify.methods.reference import documented, kind, page, settings
from sparsify.methods.registry import options_of
from sparsify.recipe.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date():
    assert (ROOT / "docs" / "recipe-reference.md").read_text("utf-8") == page(), (
        "make it anew: python -m sparsify.methods.reference docs/recipe-reference.md"
    )


@pytest.mark.parametrize("section", [Recipe, *map(options_of, method_names())])
def test_all_that_can_be_set_is_told(section):
    rows = list(settings(section))
    assert [key for key, *_ in rows] == list(section.setting_names())
    assert all(meaning for *_, meaning in rows)
    assert documented(section).keys() <= set(section.model_fields)  # nothing that is not there


def test_defaults_are_what_a_recipe_has():
    changes = [
        f"{key}={default.strip('`')}" for key, _, default, _ in settings(Recipe) if key != "methods"
    ]
    whole = load_recipe("quickstart", changes).model_dump()
    assert {**whole, "methods": {}} == {**Recipe().model_dump(), "methods": {}}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number > 0, ≤ 1"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text, or null"),
        ({"type": "string", "enum": ["a", "b"]}, "`a`, `b`"),
        ({"enum": [True, False, "auto"]}, "`true`, `false`, `auto`"),
        ({"type": "array", "items": {"type": "integer"}}, "list of whole number"),
        ({"type": "object", "additionalProperties": True}, "mapping"),
    ],
)
def test_types_in_words(schema, text):
    assert kind(schema) == text
