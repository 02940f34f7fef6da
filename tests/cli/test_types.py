"""What is typed, and what it means."""

import click
import pytest

from sparsify.cli.types import ByteCount, Number, Share


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("4e6", 4e6),
        ("4MB", 4e6),
        ("4 mb", 4e6),
        ("512KiB", 524288),
        ("1.5k", 1500),
        ("2G", 2e9),
        ("1GiB", 1 << 30),
        ("100B", 100),
        (3, 3),
    ],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(typed, number):
    assert ByteCount()(typed) == number


@pytest.mark.parametrize(
    "typed", ["0", "-1", "0MB", "nan", "inf", "1e999", "4 miles", "4 iB", "MB", "", "1.2.3"]
)
def test_what_is_no_size_is_refused(typed):
    with pytest.raises(click.BadParameter, match="is no size"):
        ByteCount()(typed)


def test_a_share_is_a_number_from_0_to_1():
    assert [Share()(typed) for typed in ("0", "0.9", " 1 ", "9e-1", 0.5)] == [0, 0.9, 1, 0.9, 0.5]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("90", "did you mean 0.9?"),
        ("90%", "did you mean 0.9?"),
        ("99.5 %", "did you mean 0.995?"),
        ("0,9", "did you mean 0.9?"),
        ("0.5%", "did you mean 0.005?"),
        ("1.5", "such as 0.9"),
        ("-1", "such as 0.9"),
        ("nan", "such as 0.9"),
        ("900", "such as 0.9"),
        ("most", "such as 0.9"),
        ("", "such as 0.9"),
    ],
)
def test_who_means_percent_is_told_what_to_type(typed, meant):
    with pytest.raises(click.BadParameter) as refused:
        Share()(typed)
    assert refused.value.message.endswith(f"is not a share from 0 to 1, {meant}")


@pytest.mark.parametrize("typed", ["nan", "inf", "-inf", "1e999"])
def test_a_number_is_finite(typed):
    with pytest.raises(click.BadParameter, match=r"is no finite number|not in the range"):
        Number(0)(typed)
    assert Number(0)("0.5") == 0.5
