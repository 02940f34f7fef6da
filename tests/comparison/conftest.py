"""What the tests of a comparison look at."""

import pytest

from sparsify.comparison.results import results_of
from sparsify.comparison.rows import collect_run


@pytest.fixture(scope="module")
def results(comparison_plan, comparison, tuned):
    rows = [
        collect_run(comparison / "runs" / cell.name, ["clean", "noisy"])
        for cell in comparison_plan.runs
    ]
    made = results_of(comparison_plan, rows, tuned, {"gmp-0.9-seed0": "it broke"})
    made["test_sets"] = [{"name": "clean"}, {"name": "noisy"}]
    return made
