"""The pages of the study say what its results say."""

import re
from pathlib import Path
from statistics import mean

import pytest

from sparsify.benchmarks.study import FROM_DENSE, SCRATCH, page, studies_in
from sparsify.benchmarks.study_plot import lines

ROOT = Path(__file__).parents[2]
DIFFERENCE = re.compile(r"[−+]\d+\.\d\d \[[−+]\d+\.\d\d, [−+]\d+\.\d\d\]")


@pytest.fixture(scope="module")
def studies():
    return studies_in(ROOT / "benchmarks" / "results")


@pytest.fixture(scope="module")
def tables(studies):
    return page(studies)


def test_the_page_of_tables_is_that_of_the_results(tables):
    assert (ROOT / "docs" / "study-tables.md").read_text("utf-8") == tables, (
        "make it anew: python -m sparsify.benchmarks.study --tables docs/study-tables.md"
    )


def test_differences_in_the_story_are_those_of_the_tables(tables):
    told = DIFFERENCE.findall((ROOT / "docs" / "study.md").read_text("utf-8"))
    assert len(told) > 20
    assert set(told) <= set(DIFFERENCE.findall(tables))


def test_a_line_of_the_picture_is_the_mean_of_its_trainings(studies):
    shown = {
        (line.method, line.target and line.target.share): line for line in lines(*_two(studies))
    }
    for results in _two(studies):
        for entry in results["means"]:
            line = shown[entry["method"], entry["target_sparsity"]]
            names = [f"{test['name']}.eer_percent" for test in results["test_sets"]]
            expected = mean(entry["metrics"][name]["mean"] for name in names)
            assert mean(line.eer_percents) == pytest.approx(expected)
            assert line.mean == pytest.approx(expected)
            assert line.low < expected < line.high
            assert len(line.eer_percents) == len(entry["seeds"])


def _two(studies):
    return studies[SCRATCH], studies[FROM_DENSE]
