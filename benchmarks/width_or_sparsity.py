"""Is a sparse wide network better than a dense narrow one? EER against size, work and latency.

Run it as `python -m sparsify.benchmarks.width_or_sparsity FOLDER [NAME=FOLDER …] --audio DIR
--output FILE` on the folders of `sparsify compare --widths`; it goes on where it was stopped. A
name is added to the methods of a folder. Every trained model is written as it would be deployed, in
several precisions; what is rounded is evaluated anew, and in the end all that run are measured side
by side. `--plot FILE` draws what the JSON holds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparsify.benchmarks.width_or_sparsity_plot import write_plot
from sparsify.comparison.cells import label_of
from sparsify.comparison.commands import RUNS
from sparsify.comparison.differences import OVERALL, differences, overall
from sparsify.comparison.plan import Plan, read_plan
from sparsify.comparison.results import read_results
from sparsify.comparison.rows import Row
from sparsify.documents import to_json
from sparsify.files import write_text

_ENGINES = {"native": "native", "onnx": "onnxruntime", "mnn": "mnn"}  # by the format
DEPLOYED = "deployed"  # folder in that of the comparison
CODED = ("--format", "safetensors", "--layout", "coded")
_TOGETHER = 15  # files that are measured side by side; more would not fit into memory
_MODULE = "sparsify.benchmarks.width_or_sparsity"


@dataclass(frozen=True)
class Variant:
    """How a model is deployed.

    Attributes:
        name: Told in results.
        stored: Options of the export whose size counts.
        engines: Options of the exports whose latency counts, the fastest of them.
        rounded: Whether the embeddings are others, so that the EER is another.
        audio: Whether the export needs audio.
    """

    name: str
    stored: Sequence[str]
    engines: Sequence[Sequence[str]] = ()
    rounded: bool = True
    audio: bool = False


_INT8_ONNX = ("--format", "onnx", "--precision", "int8")
VARIANTS = (
    Variant(
        "fp32",
        CODED,
        [("--format", "native"), ("--format", "onnx"), ("--format", "mnn")],
        rounded=False,
    ),
    Variant(
        "fp16",
        [*CODED, "--precision", "fp16"],
        [("--format", "native", "--precision", "fp16")],
    ),
    Variant("int8", [*CODED, "--precision", "int8"]),
    Variant("int8 onnx", _INT8_ONNX, [_INT8_ONNX], audio=True),
)


@dataclass(frozen=True)
class Study:
    """A comparison of widths, and where its models are deployed.

    Attributes:
        name: Added to its methods; empty to add nothing.
        folder: Of the comparison.
        plan: What was compared.
        audio: Speech that ranges of activations are taken from; none of the test speakers.
    """

    name: str
    folder: Path
    plan: Plan
    audio: Path

    @classmethod
    def named(cls, text: str, audio: Path) -> Study:
        """The study of `FOLDER` or `NAME=FOLDER`."""
        name, _, folder = text.rpartition("=")
        plan = read_plan(Path(folder))
        if plan is None:
            sys.exit(f"'{folder}' is no comparison")
        return cls(name, Path(folder), plan, audio)

    def rows(self) -> list[Row]:
        """The finished runs."""
        results = read_results(self.folder)
        if results is None:
            sys.exit(f"'{self.folder}' has no results: sparsify compare --output {self.folder}")
        end = f"-{self.name}" if self.name else ""
        return [row | {"method": f"{row['method']}{end}"} for row in results["runs"]]

    def points(self) -> list[Row]:
        """Every model in every variant: its name, EERs, size and work."""
        return [self._point(row, variant) for row in self.rows() for variant in VARIANTS]

    def files(self) -> Iterator[Path]:
        """What runs."""
        for row in self.rows():
            for variant in VARIANTS:
                for options in variant.engines:
                    yield self._export(row, variant, options)[0]

    def _point(self, row: Row, variant: Variant) -> Row:
        file, exported = self._export(row, variant, variant.stored)
        tests = row["tests"]
        if variant.rounded:
            tests = {test.name: self._evaluated(file, test.name) for test in self.plan.tests}
        small = (exported.get("shrunk") or {}).get("after", row)
        zeros = row["mac_sparsity"] if small is row else 0.0
        return {
            "method": f"{row['method']} {variant.name}",
            "cell": label_of(row),
            "variant": variant.name,
            "width": row["width"],
            "target_sparsity": row["target_sparsity"],
            "seed": row["seed"],
            "channels": small.get("channels"),  # told of shrunk networks
            "parameters": small["parameters"],
            "nonzero": row["nonzero"],
            "bytes": exported["bytes"],
            "multiply_adds": round(small["multiply_adds"] * (1 - zeros)),
            "runs_as": [
                (str(self._file(row, options)), _ENGINES[options[1]]) for options in variant.engines
            ],
            "tests": tests,
        }

    def _file(self, row: Row, options: Sequence[str]) -> Path:
        given = dict(zip(options[::2], options[1::2], strict=True))
        name = "-".join(given.values())
        suffix = {"safetensors": ".safetensors", "onnx": ".onnx", "mnn": ".mnn", "native": ""}
        return self.folder / DEPLOYED / row["run"] / f"{name}{suffix[given['--format']]}"

    def _export(self, row: Row, variant: Variant, options: Sequence[str]) -> tuple[Path, Row]:
        """The file, written if it is not there, and what its export said."""
        file = self._file(row, options)
        said = file.with_name(f"{file.name}.export.json")  # MNN has a .json of its own
        if not said.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            extra = ["--quantize-audio", str(self.audio)] if variant.audio else []
            extra += ["--shrink"] if row["options"].get("group") == "output" else []
            run = self.folder / RUNS / row["run"]
            result = _said(["export", str(run), *options, *extra, "--output", str(file), "--force"])
            write_text(said, to_json(result))
        return file, json.loads(said.read_text("utf-8"))

    def _evaluated(self, file: Path, name: str) -> Row:
        """The figures of a file on a test set."""
        said = file.with_name(f"{file.name}.{name}.json")
        if not said.is_file():
            test = next(test for test in self.plan.tests if test.name == name)
            options = ["--trials", test.trials, "--audio-root", test.audio_root]
            options += ["--confidence", "95", "--resampled"]
            write_text(said, to_json(_said(["evaluate", str(file), *options])))
        return dict(json.loads(said.read_text("utf-8")))


def _said(arguments: Sequence[str]) -> Row:
    """What one of our commands prints as JSON."""
    print(shlex.join(["sparsify", *arguments]), file=sys.stderr)
    command = [sys.executable, "-m", "sparsify", *arguments, "--json", "--quiet"]
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def measured(studies: Sequence[Study]) -> Row:
    """Latencies of all that run, of two seconds in one thread, each part once in one run."""
    files = [str(path) for study in studies for path in study.files()]
    parts = [files[start : start + _TOGETHER] for start in range(0, len(files), _TOGETHER)]
    found: Row = {"rows": []}
    for number, part in enumerate(parts):
        file = studies[0].folder / DEPLOYED / f"latencies-{number}.json"
        if not file.is_file():
            said = _said(["benchmark", *part, "--threads", "1", "--frames", "200"])
            write_text(file, to_json(said))
        one = json.loads(file.read_text("utf-8"))
        found = one | {"rows": [*found["rows"], *one["rows"]]}
    return found


def result(studies: Sequence[Study]) -> Row:
    """All points with their intervals, and sparse against dense models."""
    points = [point for study in studies for point in study.points()]
    latencies = measured(studies)
    tests = [test.name for test in studies[0].plan.tests]
    # Of a sparse file there is a row of its dense twin, too.
    times = {
        (str(Path(line["path"]).resolve()), line["engine"]): line
        for line in sorted(latencies["rows"], key=lambda line: line["artifact"] != "dense")
    }
    means = overall(points, tests)
    for point in points:
        own = [times[str(Path(path).resolve()), engine] for path, engine in point.pop("runs_as")]
        best = min(own, key=lambda line: line["median_ms"], default=None)
        point |= {"engine": best and best["engine"], "median_ms": best and best["median_ms"]}
        point[OVERALL] = dict(
            zip(("eer_percent", "low", "high"), means[label_of(point)], strict=True)
        )
    gaps = [
        gap
        for gap in differences(points, tests)
        if gap["test"] in (OVERALL, tests[0]) and _is_asked(gap, points)
    ]
    for point in points:
        for figures in point["tests"].values():
            figures["confidence"].pop("resampled_eer_percent")
    return {
        "command": " && ".join(
            [
                *(command for study in studies for command in study.plan.commands),
                shlex.join(
                    ["python", "-m", "sparsify.benchmarks.width_or_sparsity", *sys.argv[1:]]
                ),
            ]
        ),
        "machine": latencies["machine"],
        "latencies": latencies["rows"],
        "points": points,
        "differences": gaps,
    }


def _is_asked(gap: Row, points: Sequence[Row]) -> bool:
    """Whether it is one of a model that is sparse and one that is dense, in the same precision."""
    (one,) = {p["target_sparsity"] is not None for p in points if p["method"] == gap["method"]}
    (two,) = {p["target_sparsity"] is not None for p in points if p["method"] == gap["against"]}
    names = [gap[key].partition(" ")[2] for key in ("method", "against")]
    return one and not two and names[0] == names[1]


def main() -> None:
    """Deploys, evaluates, measures, writes and draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--brief-plot", type=Path, help="the same with less in it")
    options = parser.parse_args()
    found = result([Study.named(text, options.audio) for text in options.folders])
    write_text(options.output, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for file in filter(None, (options.plot, options.brief_plot)):
        write_plot(found["points"], file, brief=file == options.brief_plot)


if __name__ == "__main__":
    main()
