from itertools import combinations

import pytest

from sparsify.report.plot import MARKERS, marker, styles_of


def test_methods_can_be_told_apart():
    methods = [f"method{number}" for number in range(16)]
    styles = styles_of([*methods, "dense"])
    for one, other in combinations([*methods[:8], "dense"], 2):
        assert styles[one].colour != styles[other].colour
    assert len({(style.colour, style.marker) for style in styles.values()}) == 17
    assert len({styles[method].marker for method in methods[:8]}) == 8
    lines = {(style.colour, style.dash) for style in styles.values()}
    assert len(lines) == 17  # lines have no markers


def test_a_method_looks_the_same_on_every_page():
    alone = styles_of(["gmp"])["gmp"]
    assert styles_of(["dense", "adabreg", "gmp", "prox-sgd"])["gmp"] == alone
    assert styles_of(["another", "gmp"])["gmp"] == alone


@pytest.mark.parametrize("kind", MARKERS)
def test_markers_lie_where_they_should(kind):
    drawn = marker(kind, 50, 80, 5)
    if kind == "circle":
        assert (drawn.get("cx"), drawn.get("cy")) == ("50", "80")
        return
    corners = [
        tuple(map(float, corner.split(","))) for corner in drawn.get("d").strip("MZ").split("L")
    ]
    assert len(corners) >= 3
    for axis, centre in ((0, 50), (1, 80)):
        values = [corner[axis] for corner in corners]
        assert centre - 7 <= min(values) < centre < max(values) <= centre + 7
        assert sum(values) / len(values) == pytest.approx(centre, abs=0.1)
