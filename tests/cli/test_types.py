"""What is typed, and what it means."""

import click
import pytest

from sparsify.cli.types import ByteCount


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


@pytest.mark.parametrize("typed", ["0", "-1", "0MB", "4 miles", "4 iB", "MB", "", "1.2.3"])
def test_what_is_no_size_is_refused(typed):
    with pytest.raises(click.BadParameter, match=r"size such as 4e6, 4MB|range x>0"):
        ByteCount()(typed)
