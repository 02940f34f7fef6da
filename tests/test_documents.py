"""Documents from anybody are read or refused in one sentence, quickly."""

import json
import os
import threading
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sparsify.documents import MOST_YAML_BYTES, parse_json, parse_yaml, read_text, to_json
from sparsify.errors import SparsifyError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@given(JSON)
def test_plain_content_is_read_as_by_the_libraries(value):
    assert parse_json(json.dumps(value), "it") == value
    assert parse_yaml(yaml.safe_dump(value), "it") == value


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        BOMB + "z: {<<: [*i, *i]}",
        "a: &a [*a]",
        "a: &a {b: *a}",
        "[" * 100_000,
        "- " * 5000 + "x",
        "1" * 5000,
        "0b" + "1" * 5000,
        "9" * 40,
        "2024-13-45",
        "2024-01-01 00:00:00 +99:99",
        "!!bool maybe",
        "!!int ''",
        "!!timestamp soon",
        "!!python/object/apply:os.system [true]",
        "{a: b",
        "{[]: 1}",
        "a: \x00",
        "x" * (MOST_YAML_BYTES + 1),
        "- a\n" * (MOST_YAML_BYTES // 4),
    ],
    ids=lambda text: text[:24],
)
def test_odd_yaml_is_one_sentence(text):
    with pytest.raises(
        SparsifyError, match=r"^the recipe (is not valid YAML: \S|has more than)"
    ) as caught:
        parse_yaml(text, "the recipe")
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 200 + "1" + "}" * 200,
        "NaN",
        "-Infinity",
        "1e999",
        "1" * 5000,
        "9" * 30,
        "",
        "{",
        "\ud800{",
    ],
    ids=lambda text: text[:12],
)
def test_odd_json_is_one_sentence(text):
    with pytest.raises(SparsifyError, match=r"^line 3 is not valid JSON: \S") as caught:
        parse_json(text, "line 3")
    assert len(str(caught.value)) < 500


def test_anchors_are_read():
    text = "base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\nlist: [*base, *base]"
    assert parse_yaml(text, "it") == yaml.safe_load(text)


def test_what_is_not_finite_is_null():
    value = {"a": float("nan"), "b": [1.5, float("inf")], "c": (float("-inf"), "NaN")}
    assert json.loads(to_json(value)) == {"a": None, "b": [1.5, None], "c": [None, "NaN"]}


def test_large_files_and_other_encodings_are_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2048)
    assert read_text(path, 2048) == "x" * 2048
    with pytest.raises(SparsifyError, match="larger than 1 KiB"):
        read_text(path, 1024)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SparsifyError, match="not UTF-8"):
        read_text(path, 1024)


def test_what_is_no_file_is_read_only_if_somebody_named_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(SparsifyError, match="is a pipe or a device"):
            read_text(path, 1024)
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path, 1024)
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("list",))
    writer.start()
    assert read_text(tmp_path / "pipe", 1024, pipes=True) == "list"
    writer.join()
