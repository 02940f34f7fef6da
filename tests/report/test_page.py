"""The report: complete, self-contained, and alive in a browser."""

import json
import re
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from sparsify.comparison.curves import read_curves
from sparsify.comparison.differences import differences
from sparsify.comparison.gathering import Part, gather
from sparsify.comparison.results import results_json, results_of
from sparsify.comparison.rows import collect_run
from sparsify.comparison.text_tables import to_csv
from sparsify.report.curve_panels import QUANTITIES
from sparsify.report.difference_charts import differences_section
from sparsify.report.document import write_document
from sparsify.report.markup import element
from sparsify.report.page import write_report
from sparsify.report.plot import styles_of
from sparsify.training.run_directory import RunDirectory

from ..browser import QUIET, installed_browser

# Does what a reader does, and leaves what it found in the page's title.
PROBE = """
const seen = [];
const click = (selector) => document.querySelector(selector).click();
const shows = (selector) => [...document.querySelectorAll(selector)]
  .filter((each) => each.getClientRects().length).length;
const column = () => [...document.querySelectorAll("table")[0].tBodies[0].rows]
  .map((row) => Number(row.cells[3].dataset.value));
document.querySelectorAll("th button")[3].click();
seen.push(column().every((value, index, all) => !index || all[index - 1] <= value));
document.querySelectorAll("th button")[3].click();
seen.push(column().every((value, index, all) => !index || all[index - 1] >= value));
const lines = shows('[data-method="linbreg"] path');
click('.legend input[value="linbreg"]');
seen.push(lines > 0 && shows('[data-method="linbreg"] path') === 0);
click('.legend input[value="linbreg"]');
seen.push(shows('[data-method="linbreg"] path') === lines);
seen.push(shows("[data-choice]") === 2);
click('[data-choose="90%"]');
click('[data-choose="against linbreg"]');
const chosen = '[data-choice="90%"], [data-choice="against linbreg"]';
seen.push(shows(chosen) === 2 && shows("[data-choice]") === 2);
const theme = document.documentElement.dataset.theme;
click("#theme");
seen.push(theme !== document.documentElement.dataset.theme);
const tip = document.getElementById("tip");
document.querySelector(".marker[data-tip]").dispatchEvent(new PointerEvent("pointermove"));
seen.push(!tip.hidden && tip.textContent.includes("EER"));
const panel = document.querySelector('svg.panel[data-quantity="lambda"]');
panel.scrollIntoView();
const box = panel.getBoundingClientRect();
panel.dispatchEvent(new PointerEvent("pointermove", { clientX: box.right - 20, clientY: box.top }));
seen.push(tip.textContent.includes("linbreg") && !tip.textContent.includes("dense"));
seen.push(document.documentElement.scrollWidth <= innerWidth);
const table = document.querySelector("section > .scroll");
seen.push(innerWidth < 1300 || table.scrollWidth <= table.clientWidth);
const along = (a, b, from, to, touch) => a[from] < b[to] - touch && b[from] < a[to] - touch;
const meet = (a, b) => along(a, b, "left", "right", 1) && along(a, b, "top", "bottom", 3);
seen.push([...document.querySelectorAll("svg")].every((drawing) => {
  const boxes = [...drawing.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
  return boxes.every((box, index) => !boxes.slice(index + 1).some((other) => meet(box, other)));
}));
const saved = [];
URL.createObjectURL = (blob) => `data:${blob.type},${blob.size}`;
HTMLAnchorElement.prototype.click = function () { saved.push(this.download, this.href); };
click("#get-json");
click("#get-csv");
seen.push(/^results.json,data:application.json,\\d{4,},results.csv,data:text.csv,\\d{3,}$/.test(saved));
seen.push(performance.getEntriesByType("resource").length === 0);
document.title = JSON.stringify(seen);
"""


class Parts(HTMLParser):
    """The tags of a page with their attributes, and the text of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.open_script = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")
            self.open_script = True

    def handle_endtag(self, tag):
        if tag == "script":
            self.open_script = False

    def handle_data(self, data):
        if self.open_script:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def results(comparison_plan, comparison, tuned):
    rows = [
        collect_run(comparison / "runs" / cell.name, ["clean", "noisy"])
        for cell in comparison_plan.runs
    ]
    latency = {
        "machine": {"cpu": "a processor"},
        "rows": [
            {"engine": "onnxruntime", "artifact": kind, "threads": 1, "median_ms": 2.5}
            for kind in ("dense", "sparse")
        ],
    }
    rows[0] = rows[0] | {"latency": latency}
    rng = np.random.default_rng(0)
    for row in rows:
        for name, result in row["tests"].items():
            samples = (result["eer_percent"] + rng.normal(size=40)).tolist()
            ends = {"eer_percent": [min(samples), max(samples)]}
            row["tests"] = row["tests"] | {
                name: result | {"confidence": ends | {"resampled_eer_percent": samples}}
            }
    hostile = {"gmp-0.9-seed0": "</script><script>document.body.innerHTML = ''</script> & <b>"}
    plan = comparison_plan.model_copy(update={"commands": ("sparsify compare --output 'a & b'",)})
    made = results_of(plan, rows, tuned, hostile)
    found = differences(rows, ["clean", "noisy"])
    tests = [{"name": "clean"}, {"name": "noisy"}]
    return made | {"test_sets": tests, "standing": "clean", "differences": found}


@pytest.fixture(scope="module")
def page(results, comparison, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(results, path)
    return path


def charts(parts):
    return [own["aria-label"] for tag, own in parts.tags if tag == "svg" and "aria-label" in own]


def test_every_chart_is_there(page):
    names = charts(Parts(page.read_text()))
    assert len(names) == len(set(names)) + 1  # the bars of two targets
    assert "EER compared with linbreg, noisy" in names
    for expected in (
        "EER against sparsity, clean",
        "EER against sparsity, noisy",
        "EER compared with dense, clean",
        "EER compared with dense, mean of all",
        "Sparsity over training, target 50%",
        "Sparsity over training, target 90%",
        "The threshold λ over training, target 90%",
        "EER on validation speakers over training, target 50%",
        "EER on corrupted validation speech over training, target 50%",
        "Norm of the prunable weights over training, target 90%",
        "Training loss over training, target 90%",
        "Weights left in every layer of every model",
        "Weights left, layer by layer",
        "File size",
        "Training time",
        "Latency, 1 thread",
    ):
        assert expected in names


def test_every_target_has_the_methods_in_the_same_order():
    """That of the table, whatever that of the runs: here they come in turn from the two ends."""
    methods, ends = ("dense", "rigl", "adabreg"), {"eer_percent": -1.0, "low": -2.0, "high": 0.0}
    ends |= {"seeds": [3], "by_seed": [-1.0]}
    results = {
        "means": [{"method": method} for method in methods],
        "differences": [
            {"test": "clean", "method": m, "against": "dense", "target_sparsity": target} | ends
            for target, order in ((0.9, methods[1:]), (0.5, methods[:0:-1]))
            for m in order
        ],
        "runs": [],
        "test_sets": [],
    }
    drawn = differences_section(results, styles_of(methods))
    texts = [
        text
        for each in drawn.iter("text")
        if (text := each.text) and text in ("50%", "90%", *methods)
    ]
    assert texts == ["50%", "rigl", "adabreg", "90%", "rigl", "adabreg"]


def test_latencies_of_several_machines_have_charts_of_their_own(results, tmp_path):
    """Which were measured with other numbers of threads."""
    rows = []
    for row, (cpu, threads) in zip(results["runs"], [("one", 1), *[("two", 8)] * 5], strict=True):
        line = {"engine": "onnxruntime", "artifact": "sparse", "threads": threads, "median_ms": 1}
        rows.append(row | {"latency": {"machine": {"cpu": cpu}, "rows": [line]}})
    path = tmp_path / "report.html"
    write_report(results | {"runs": rows}, path)
    text = path.read_text()
    names = charts(Parts(text))
    assert ("Latency, 1 thread" in names, "Latency, 8 threads" in names) == (True, True)
    assert "2 s of speech on one" in text
    assert "2 s of speech on two" in text


def test_odd_runs_have_a_page(results, tmp_path):
    """Partly evaluated ones, times of PyTorch alone, numbers that are next to nothing."""
    alone = {"engine": "pytorch", "artifact": "sparse", "threads": 1, "median_ms": 1}
    latency = {"machine": {"cpu": "one"}, "rows": [alone]}
    rows = [
        row
        | {"tests": row["tests"] if row["seed"] else {}, "latency": latency}
        | {"curves": {"step": [1, 2], "loss": [0.0, 5e-324], "eer_percent": [5e-324, 5e-324]}}
        for row in results["runs"]
    ]
    file = tmp_path / "results.json"
    file.write_text(results_json(results | {"runs": rows}))
    write_report(gather([Part(file)]), tmp_path / "report.html")
    assert "Latency" not in charts(Parts((tmp_path / "report.html").read_text()))


def test_holds_the_data(page, results):
    scripts = Parts(page.read_text()).scripts
    data = json.loads(scripts[0])
    assert data["results"] == json.loads(json.dumps(results))
    assert json.loads(scripts[1]) == to_csv(results)


def test_nothing_is_loaded_from_elsewhere(page):
    text = page.read_text()
    for tag, own in Parts(text).tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert own.get(name, "data:").startswith(("data:", "#")), (tag, own)
    assert "@import" not in text
    assert "url(" not in text
    assert "fetch(" not in text


def test_text_from_outside_stays_text(page):
    parts = Parts(page.read_text())
    assert len(parts.scripts) == 3
    assert ("b", {}) not in parts.tags


def test_a_single_run_has_a_page(comparison, tmp_path):
    path = tmp_path / "report.html"
    write_report(gather([Part(comparison / "runs" / "linbreg-0.9-seed0")]), path)
    text = path.read_text()
    names = charts(Parts(text))
    assert "Sparsity over training, target 90%" in names
    assert "Weights left, layer by layer" in names
    assert not any("EER against sparsity" in name for name in names)
    assert "<h1>linbreg-0.9-seed0</h1>" in text
    write_report(gather([Part(comparison / "runs" / "dense-seed0")]), path)
    assert "Training loss over training" in charts(Parts(path.read_text()))


def test_what_was_tuned_is_told(page):
    text = page.read_text()
    section = text[text.index("<h2>Tuning</h2>") :]
    section = section[: section.index("</section>")]
    for expected in ("gmp", "lr", "0.001", "8.51", "failed", "chosen"):
        assert expected in section


def test_when_everything_failed_the_page_says_why(comparison_plan, comparison, tmp_path):
    failed = results_of(comparison_plan, [], [], {"dense-seed0": "no such folder"})
    write_report(failed, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "no such folder" in text
    assert to_csv(failed) == "run,method,target_sparsity,target_macs,seed\n"


@pytest.mark.parametrize("width", [1366, 390])
def test_works_in_a_browser(page, tmp_path, width):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", f"<script>{PROBE}</script></body>"))
    result = subprocess.run(
        [
            installed_browser(),
            *QUIET,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--dump-dom",
            f"file://{probed}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in result.stderr, result.stderr
    title = re.search(r"<title>(.*?)</title>", result.stdout)
    assert title
    seen = json.loads(title[1])
    assert seen == [True] * 14


def test_results_keep_every_quantity_that_is_drawn(tmp_path):
    columns = [quantity.column for quantity in QUANTITIES]
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1} | dict.fromkeys(columns, 0.5)))
    assert set(read_curves(RunDirectory(tmp_path))) == {"step", *columns}


def test_names_with_bytes_that_are_no_characters_are_written(tmp_path):
    write_document(tmp_path / "page.html", "run-\udcfc", "of \udcfc", element("p", "\udcfc"), {})
    assert "run-?" in (tmp_path / "page.html").read_text("utf-8")
