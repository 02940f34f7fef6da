"""The chart of EER against sparsity."""

from itertools import pairwise

import pytest

from sparsify.report.accuracy import accuracy_panel
from sparsify.report.plot import room_for, styles_of

METHODS = ["gmp", "rigl", "rewa", "adabreg", "linbreg", "one-shot", "prox-sgd", "prescribed-l1"]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_methods_stay_nearest_to_their_target(count):
    targets, methods = (0.75, 0.9, 0.95, 0.99), METHODS[:count]
    means = [
        {
            "method": method,
            "target_sparsity": target,
            "seeds": [0],
            "cell": f"{method}@{target}",
            "metrics": {
                "clean.eer_percent": {"mean": eer, "min": eer, "max": eer},
                "sparsity": {"mean": target, "min": target, "max": target},
            },
        }
        for number, method in enumerate(methods)
        for target in targets
        for eer in [6.0 + number]
    ]
    panel = accuracy_panel("clean.eer_percent", "clean", means, [], styles_of(methods))
    lines = [
        [float(point.split(",")[0]) for point in path.get("d")[1:].split("L")]
        for path in panel.iter("path")
        if path.get("class") == "mean"
    ]
    assert len(lines) == count
    for at_left, at_right in pairwise(zip(*lines, strict=True)):
        assert max(at_left) - min(at_left) < 2 * (min(at_right) - max(at_left))


def test_long_names_get_their_room():
    assert room_for(["gmp"], 128) == 128
    long = "prescribed-l1-from-dense@0.95"
    assert room_for(["gmp", long], 128) > 6.5 * len(long)
