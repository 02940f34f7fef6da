"""What a page looks like, by its coordinates: nothing empty, nothing on anything else."""

from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from sparsify.comparison.results import runs_alone
from sparsify.recipe.recipe import Recipe
from sparsify.report.document import per_row
from sparsify.report.page import write_report
from sparsify.report.plot import spread
from sparsify.texts import shortened, shortened_apart

from .labels import outside, overlapping

TESTS = [{"name": name} for name in ("clean", "noisy", "telephone")]
LAYERS = ("layer1.weight", "encoder.layers.11.attention.self.query_key_value.projection.weight")


def row(method, target=None, *, width=None, seed=0, eer=5.0, macs=None, points=5, **latencies):
    """A run; `latencies` are milliseconds by engine, of what is twice as slow without zeros."""
    samples = np.linspace(0.5 * eer, 1.5 * eer, 200)
    sparsity = target or (0.0 if macs is None else 0.93)
    confidence = {"eer_percent": [0.5 * eer, 1.5 * eer], "resampled_eer_percent": samples.tolist()}
    tested = {"eer_percent": eer, "min_dcf": 0.5, "trials": 10, "confidence": confidence}
    steps = [100 * (n + 1) for n in range(points)]
    curves = {"step": steps} | {name: [eer] * points for name in ("loss", "eer_percent", "lambda")}
    lines = [
        {"engine": engine, "artifact": kind, "threads": 1, "median_ms": times * milliseconds}
        for engine, milliseconds in latencies.items()
        for kind, times in (("dense", 2), ("sparse", 1))
    ]
    size = 1_000_000 if width is None else 10_000 * width
    sizes = {"bytes": size, "zipped_bytes": size, "bitmask_bytes": int(size * (1 - sparsity))}
    layer = {"parameters": 1000, "nonzero": int(1000 * (1 - sparsity)), "sparsity": sparsity}
    return {
        "run": f"{method}-{target}-{seed}",
        "method": method,
        "width": width,
        "target_sparsity": target,
        "target_macs": macs,
        "seed": seed,
        "model": "ecapa-tdnn",
        "data": "speech/train",
        "device": "cpu",
        "tests": {test["name"]: tested for test in TESTS},
        "validation": {"eer_percent": eer, "min_dcf": 0.5},
        "multiply_adds": 10**6,
        "mac_sparsity": sparsity,
        "latency": {"machine": {"cpu": "x"}, "rows": lines} if lines else None,
        "curves": curves | {"sparsity": [sparsity] * points, "weight_norm": [None] * points},
        "layers": [{"name": name} | layer for name in LAYERS],
        "averaged_steps": None,
        "selected_step": 500,
        **sizes,
        **dict.fromkeys(("sparsity", "global_sparsity"), sparsity),
        **dict.fromkeys(("eer_percent", "min_dcf", "seconds"), eer),
        **dict.fromkeys(("parameters", "nonzero", "steps"), 500),
    }


class Page(HTMLParser):
    """The drawings of a page, and the texts of its other elements by class."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.tree = ElementTree.TreeBuilder()
        self.open, self.drawings, self.texts = [], [], {}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        if tag == "svg":
            self.drawing, self.depth = ElementTree.TreeBuilder(), 0
        if self.drawing_is_open(tag):
            own = {name: value or "" for name, value in attributes}
            own |= {"viewBox": own["viewbox"]} if "viewbox" in own else {}
            self.drawing.start(tag, own)
            self.depth += 1
        elif tag not in ("meta", "link", "input"):
            self.open.append(dict(attributes).get("class") or tag)

    def drawing_is_open(self, tag=None):
        return getattr(self, "depth", 0) > 0 or tag == "svg"

    def handle_endtag(self, tag):
        if not self.drawing_is_open():
            self.open.pop()
            return
        self.drawing.end(tag)
        self.depth -= 1
        if not self.depth:
            self.drawings.append(self.drawing.close())

    def handle_data(self, data):
        if self.drawing_is_open():
            self.drawing.data(data)
        elif self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


@pytest.fixture
def page(tmp_path):
    def made(rows):
        path = tmp_path / "page.html"
        write_report(runs_alone(TESTS, Recipe().model_dump(mode="json"), rows), path)
        return Page(path)

    return made


def charts(page):
    return {own.get("aria-label"): own for own in page.drawings if own.get("aria-label")}


METHODS = ("adabreg", "prescribed-l1", "prescribed-l1-from-another-dense-model", "gmp", "linbreg")
MANY = {
    "targets": [
        row("dense", engine=3.0),
        *(row(m, t, onnxruntime=1.0) for m in METHODS for t in (0.5, 0.9, 0.99, 0.9995, 0.99995)),
    ],
    "work": [row("dense"), *(row(m, macs=s) for m in METHODS for s in (0.05, 0.1, 0.123456))],
    "widths": [
        *(row(f"dense-w{n}", width=n, eer=5 + 0.01 * n, native=1.0) for n in (8, 16, 32, 64, 128)),
        *(row(f"{m}-w{n}", 0.9, width=n) for m in METHODS[:2] for n in (16, 128)),
    ],
}


@pytest.mark.parametrize("rows", MANY.values(), ids=MANY)
def test_no_label_lies_on_another_or_leaves_its_chart(page, rows):
    found = charts(page(rows))
    assert len(found) > 8
    for name, drawing in found.items():
        assert not overlapping(drawing), name
        assert not outside(drawing), name


@pytest.mark.parametrize("points", [1, 5])
@pytest.mark.parametrize("methods", [{"adabreg": 0.9}, {"dense": None}, {"gmp": 0.9, "rigl": 0.9}])
def test_every_chart_shows_something(page, methods, points):
    """A single point as a marker, since a line through it cannot be seen."""
    found = charts(page([row(*each, points=points) for each in methods.items()]))
    assert not any("Norm" in name for name in found)  # of which nothing is known
    curves = [own for name, own in found.items() if "over training" in name]
    assert curves
    for drawing in found.values():
        marks = [each for each in drawing.iter() if each.tag in ("path", "circle", "rect")]
        assert marks
        for line in (each for each in marks if each.get("class") in ("curve", "mean")):
            assert "L" in line.get("d")
    for drawing in curves:
        kinds = {each.get("class") for each in drawing.iter() if each.tag in ("path", "circle")}
        assert kinds == ({"marker"} if points == 1 else {"curve"})


def figures(found):
    keys = ("tile-name", "tile-figure", "tile-about")
    return {name: rest for name, *rest in zip(*(found.texts[key] for key in keys), strict=True)}


def test_the_first_card_tells_loss_and_gain(page):
    dense, sparse = row("dense", eer=5.0, mnn=8.0, native=9.0), row("gmp", 0.9, eer=6.0, native=2.0)
    found = page([dense, sparse])
    assert found.texts["h2"][0] == "gmp at 90% against dense"
    known = figures(found)
    assert [*known][:3] == ["EER", "File", "Latency"]
    assert known["EER"] == [
        "6.00%",
        "1.00 points lost against 5.00% (95% interval +0.53 to +1.47), on clean speech",
    ]
    assert known["File"] == [
        "100.0 kB",
        "in the bitmask layout, 10 times smaller than the dense file of 1.00 MB",
    ]
    assert known["Latency"] == [
        "2.00 ms",
        "2 s of speech in native, one thread, 4 times faster than dense in mnn (8.00 ms)",
    ]


def test_the_first_card_is_silent_about_what_is_not_known(page):
    found = figures(page([row("gmp", 0.9, eer=6.0)]))
    assert found["EER"] == ["6.00%", "on clean speech, 95% interval 3.00 to 9.00"]
    assert found["File"][1].endswith("10 times smaller than its plain file of 1.00 MB")
    assert "Latency" not in found
    [about] = [figures(page([row("gmp", 0.9, native=2.0)]))["Latency"][1]]
    assert about.endswith("2 times faster than dense in native (4.00 ms)")  # its twin


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_rows_of_cards_have_no_holes(most):
    for count in range(20):
        lengths, number = per_row(count, most), 0
        assert len(lengths) == count
        assert max(lengths, default=1) - min(lengths, default=1) <= 1
        while number < count:
            assert {*lengths[number : number + lengths[number]]} == {lengths[number]}
            number += lengths[number]
        assert number == count
        assert all(1 <= length <= most for length in lengths)


def test_labels_make_room_for_one_another():
    assert spread([50, 10, 52], 14, 0, 100) == [38, 10, 52]
    assert spread([99, 100], 14, 0, 100) == [86, 100]
    assert spread([1, 2], 14, 0, 100) == [0, 14]
    assert shortened("layer.0.weight", 20) == "layer.0.weight"
    assert shortened("layer.0.conv1.weight", 11) == "layer…eight"
    names = [f"layer{n}.block.{kind}.weight" for n in range(3) for kind in ("conv", "0.bn", "1.bn")]
    for letters in range(1, 30):
        short = shortened_apart(names, letters)
        assert [len(text) for text in short] == [min(letters, len(name)) for name in names]
    assert len(set(shortened_apart(names, 18))) == 9 > len({shortened(each, 18) for each in names})
