"""The study of docs/study.md from its committed results: its tables and its picture.

Run it as `python -m sparsify.benchmarks.study --tables docs/study-tables.md --plot
docs/images/study_forest.png`. It trains nothing: benchmarks/study.sh does that, and `sparsify
report` joins its parts into the `study_*.json` of benchmarks/results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sparsify.benchmarks import study_tables as tables
from sparsify.benchmarks.study_plot import write_plot
from sparsify.comparison.results import Results, results_in
from sparsify.comparison.wording import lost
from sparsify.errors import SparsifyError
from sparsify.files import write_text

SCRATCH, FROM_DENSE, LAMBDA = "study_scratch", "study_from_dense", "study_lambda"
MORE = "study_more"  # further ways to prune
TUNING = (
    *("study_rates", "study_decay", "study_schedule"),
    *("study_more_rates", "study_more_decay"),  # of further ways to prune
)
OTHERS = {
    "speech_mini_resnet34": "ResNet34 of 8 channels, by an earlier version",
    "speech_mini_campplus": "CAM++ of 32 channels, 8 in its 2-D head, which is protected from"
    " pruning; learning rates are those of the ECAPA-TDNN",
    "speech_mini_redimnet2": "ReDimNet2 of 4 channels; learning rates are those of the ECAPA-TDNN",
}
"""Other networks, with one seed each."""
PARTS = (SCRATCH, FROM_DENSE, LAMBDA, MORE, *TUNING, *OTHERS)
"""Files of the study, without their suffix."""
_STEPS = (120, 200, 400, 600, 740)  # landing is at 750
_VALIDATED = (200, 400, 600, 800, 1000)

INTRODUCTION = """# Tables of the study

This page is made by `python -m sparsify.benchmarks.study --tables docs/study-tables.md` from the
files in [`benchmarks/results`](../benchmarks/results). Do not edit it. [study.md](study.md) says
what was asked, how, and what came out.

- **EER** is the equal error rate in percent, on 22 test speakers and 10,164 trials. The lower, the
  better.
- **Conditions** are clean; noisy, which resembles the augmentation of training; and room, babble
  and telephone, which training never met. *Mean of all* is the mean of the conditions.
- **Square brackets** hold 95 % intervals. Those of an EER are over test speakers. Those of a
  difference are over speakers and seeds, drawn for both methods alike. With one seed they do not
  know what another training would give.
- **Bold** differences have intervals that leave out zero.
- `dense` has a weight decay of 1, `dense-little-decay` one of 0.0001. `rewa` has a decay of 0.3,
  `rewa-less-decay` one of 0.1. `dense-half` was trained for half of the steps. Names that end in
  `-from-dense` went on from it for the other half.
"""


def page(studies: Mapping[str, Results]) -> str:
    """The tables in Markdown.

    Args:
        studies: The parts of the study by name, see `PARTS`.
    """
    scratch, started, steered = studies[SCRATCH], studies[FROM_DENSE], studies[LAMBDA]
    more = studies[MORE]
    from_scratch = {entry["method"] for entry in scratch["means"]}
    late = {entry["method"] for entry in started["means"]} - from_scratch
    tests = tables.tests_of(scratch)
    tried = [row for name in TUNING for row in studies[name]["runs"]]
    further = {entry["method"] for entry in more["means"]} - from_scratch
    runs = [
        row
        for part, names in ((scratch, from_scratch), (started, late), (more, further))
        for row in tables.only(part["runs"], names)
    ]
    begun = late - {"dense-half"}
    parts = [
        INTRODUCTION,
        "## Accuracy",
        f"ECAPA-TDNN of 128 channels, trained from scratch ({_link(SCRATCH)}):",
        tables.models(scratch),
        f"The same network, begun as a dense one, and that one ({_link(FROM_DENSE)}):",
        tables.models(started, late),
        "Further ways to prune, from scratch and with one seed, beside AdaBreg and GMP. These were"
        f" trained on a processor with bf16, and those above without ({_link(MORE)}):",
        tables.models(more),
        *(
            part
            for name, what in OTHERS.items()
            for part in (f"{what}; one seed ({_link(name)}):", tables.models(studies[name]))
        ),
        "## Differences",
        "In points of EER: the method of the row minus the one in the title.",
        *tables.against(scratch, ("dense", "dense-little-decay", "gmp", "adabreg", "linbreg")),
        "## Differences without the seed of the tuning",
        f"All options were chosen with seed {tables.TUNED_SEED}. These are of the others alone.",
        tables.without_tuned_seed(scratch),
        "## What a condition adds to the clean EER",
        "The EER under a condition minus that on clean speech; and of this the method minus a dense"
        " network. Negative means that the method loses less.",
        tables.added(scratch),
        "## Differences from a dense start",
        *tables.against(started, ("gmp-from-dense", "gmp", "adabreg", "linbreg"), begun),
        "## Differences from further ways to prune",
        *tables.against(more, ("gmp", "adabreg")),
        "## Rules for λ",
        f"AdaBreg at 90 % with one seed ({_link(LAMBDA)}). `adabreg` has the quantile rule,"
        " `adabreg-paper-rule` that of arXiv 2605.07892, `adabreg-fixed` λ = 0.15, and the others"
        " the λ of their names. Two of these were not tested.",
        tables.models(steered),
        *tables.against(
            steered, ("adabreg-fixed", "adabreg-fixed-lambda-04", "adabreg-paper-rule")
        ),
        "Sparsity in percent before the landing at step 750, by step:",
        tables.by_step(steered, lambda c, at: f"{100 * c['sparsity'][at]:.2f}", _STEPS),
        "Validation EER in percent by step: the mean (clean / corrupted):",
        tables.by_step(steered, _validated, _VALIDATED),
        "## Tuning",
        "Mean validation EER in percent, clean and corrupted, of every value that was tried. In"
        " bold is the one that the study uses. The last column has the EER of the study's own run,"
        " which may differ in further options. `granet`, `acdc`, `str` and `snip` were trained on a"
        " processor with bf16, the others without.",
        tables.tuning([studies[name] for name in (*TUNING, MORE, SCRATCH, FROM_DENSE, LAMBDA)]),
        "The run that validation speakers chose in each tuning, on test speakers"
        f" ({', '.join(_link(name) for name in TUNING)}):",
        tables.runs(tried, tests),
        "## Where the weights are left",
        "Share of zeros in percent at 90 %, mean over seeds:",
        tables.layers(scratch),
        "Layers that have lost all weights:",
        "\n".join(f"- {sentence}" for sentence in lost(scratch)),
        "## Every training",
        tables.runs(runs, tests),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _link(name: str) -> str:
    return f"[`{name}.json`](../benchmarks/results/{name}.json)"


def _validated(curves: Mapping[str, Sequence[float]], at: int) -> str:
    clean, corrupted = curves["eer_percent"][at], curves["corrupted_eer_percent"][at]
    return f"{(clean + corrupted) / 2:.1f} ({clean:.1f} / {corrupted:.1f})"


def studies_in(folder: Path) -> dict[str, Results]:
    """The parts of the study by the names of their files.

    Raises:
        SparsifyError: A part is missing, damaged, or of another version.
    """
    found = {}
    for name in PARTS:
        file = folder / f"{name}.json"
        results = results_in(file)
        if results is None:
            raise SparsifyError(f"'{file}' is of another version: join its runs anew")
        found[name] = results
    return found


def main() -> None:
    """Writes what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m sparsify.benchmarks.study")
    parser.add_argument("--results", type=Path, default=Path("benchmarks", "results"))
    parser.add_argument("--tables", type=Path, help="page of tables to write")
    parser.add_argument("--plot", type=Path, help="picture to write; needs matplotlib")
    options = parser.parse_args()
    if not (options.tables or options.plot):
        parser.error("give --tables, --plot or both")
    try:
        studies = studies_in(options.results)
        if options.tables:
            write_text(options.tables, page(studies))
    except SparsifyError as error:
        sys.exit(f"Error: {error}")
    if options.plot:
        write_plot(studies[SCRATCH], studies[FROM_DENSE], options.plot)


if __name__ == "__main__":
    main()
