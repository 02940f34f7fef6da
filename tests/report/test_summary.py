"""The summary for a pull request says what was lost and gained, in that order."""

import numpy as np
import pytest

from sparsify.report.summary import Measured, summary
from sparsify.verification.confidence import Confidence
from sparsify.verification.evaluate import Evaluation
from sparsify.verification.metrics import operating_points
from sparsify.verification.protocol import Outcome
from sparsify.verification.scoring import Scoring


def model(name, eer, *, size=1_000_000, spread=1.0, **times):
    """A model whose EER differs from sample to sample by `spread` times what is hard for all."""
    samples = eer + spread * np.linspace(-1, 1, 1001)
    interval = tuple(np.percentile(samples, [2.5, 97.5]))
    intervals = Confidence(95.0, 22, 1001, interval, (), tuple(samples))
    result = Evaluation(eer, 0.5, 0.01, 60, 10, 50, 12, 1.0)
    points = operating_points([0.0, 1.0], [False, True])
    return Measured(name, Outcome(Scoring(), points, result, intervals), size, size // 2, **times)


def first_line(*arguments):
    return summary(*arguments).splitlines()[0]


def test_it_begins_with_the_verdict():
    dense = model("dense.onnx", 5.0, size=8_000_000, engine="onnxruntime", milliseconds=12.0)
    faster = {"engine": "mnn", "milliseconds": 4.0, "speedup": (3.0, (2.5, 3.5))}
    sparse = model("sparse.mnn", 5.4, **faster)
    assert first_line(dense, [sparse], "Latency: so.") == (
        "**`sparse.mnn`**, against `dense.onnx`: **0.40 points of EER lost"
        " (95% interval +0.40 to +0.40), 8 times smaller,"
        " 3 times faster (95% interval 2.5 to 3.5)**"
    )
    text = summary(dense, [sparse], "Latency: so.")
    assert (
        "| `sparse.mnn` | 5.40 (4.45 – 6.35) | **+0.40** (+0.40 – +0.40) | 0.500 | 1.00 MB" in text
    )
    assert "4.00 ms (mnn)" in text
    assert text.endswith("\nLatency: so.\n")
    assert "latency" not in summary(dense, [sparse])


@pytest.mark.parametrize(
    ("speedup", "words"),
    [
        ((1.1, (0.97, 1.2)), "level in latency (95% interval 0.97 to 1.20 times as fast)"),
        ((0.5, (0.4, 0.8)), "2 times slower (95% interval 1.25 to 2.5)"),
    ],
)
def test_what_may_be_noise_is_level(speedup, words):
    models = model("dense", 5.0, milliseconds=4.0), model("sparse", 5.0, speedup=speedup)
    assert words in first_line(models[0], [models[1]], "Latency.")


@pytest.mark.parametrize(
    ("eer", "spread", "words"),
    [
        (4.5, 1.0, "0.50 points of EER gained (95% interval −0.50 to −0.50)"),
        (5.1, 2.0, "0.10 points of EER lost (95% interval −0.85 to +1.05, which may be chance)"),
        (5.0, 1.0, "the same EER, 2 times larger"),
    ],
)
def test_losses_and_gains_in_words(eer, spread, words):
    found = model("a`b|c", eer, spread=spread, size=2_000_000)
    line = first_line(model("dense", 5.0), [found])
    assert words in line
    assert "`a'b¦c`" in line
