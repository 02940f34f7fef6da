import re
from importlib import resources
from itertools import combinations

import numpy as np
import pytest

from sparsify.methods.names import method_names
from sparsify.report.plot import MARKERS, marker, styles_of

# Seeing without one kind of cones, in linear RGB (Machado, Oliveira, Fernandes 2009, severity 1).
EYES = {
    "all": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
# From linear RGB to Oklab (Ottosson 2020).
CONES = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
OPPONENTS = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]


def schemes():
    """The colours of the light and of the dark scheme by name, in linear RGB."""
    text = resources.files("sparsify.report").joinpath("style.css").read_text("utf-8")
    for block in re.findall(r"^:root[^{]*{(.*?)^}", text, re.DOTALL | re.MULTILINE):
        encoded = {
            name: np.array([int(value[i : i + 2], 16) for i in (0, 2, 4)]) / 255
            for name, value in re.findall(r"--([\w-]+): #([0-9a-f]{6});", block)
        }
        yield {
            name: np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
            for name, value in encoded.items()
        }


def oklab(colour, eyes):
    seen = np.clip(np.asarray(EYES[eyes]) @ colour, 0, 1)
    return np.asarray(OPPONENTS) @ np.cbrt(np.asarray(CONES) @ seen)


def contrast(one, other):
    """As WCAG 2.2 defines it."""
    bright, dark = sorted((np.dot([0.2126, 0.7152, 0.0722], c) for c in (one, other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_apart_by_everybody(scheme, eyes):
    colours = [*schemes()][scheme]
    names = ["reference", *(name for name in colours if re.fullmatch(r"s\d", name))]
    assert len(names) == 11  # of many methods some share one, and differ in marker and dash
    for one, other in combinations(names, 2):
        distance = np.linalg.norm(oklab(colours[one], eyes) - oklab(colours[other], eyes))
        assert distance > 0.075, (one, other)
    for name in (*names, "pale"):
        assert contrast(colours[name], colours["card"]) > 3, name


def test_methods_can_be_told_apart():
    everyone = styles_of(method_names()).values()
    assert len({(style.colour, style.marker) for style in everyone}) == len(method_names())
    assert len({(style.colour, style.dash) for style in everyone}) == len(method_names())
    methods = [f"method{number}" for number in range(16)]
    styles = styles_of([*methods, "dense"])
    assert len({styles[method].colour for method in [*methods[:10], "dense"]}) == 11
    assert len({(style.colour, style.marker) for style in styles.values()}) == 17
    assert len({styles[method].marker for method in [*methods[:10], "dense"]}) == 11
    lines = {(style.colour, style.dash) for style in styles.values()}
    assert len(lines) == 17  # lines have no markers


def test_widths_of_the_reference_can_be_told_apart():
    names = [f"dense-w{width}" for width in (16, 32, 64, 128)]
    styles = styles_of([*names, "adabreg-w16", "adabreg-w32"])
    assert len({style.colour for style in styles.values()}) == 7
    assert len({styles[name].marker for name in styles if name != "dense"}) == 6


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
