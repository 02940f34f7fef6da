"""The search for a sparsity, where time and size follow known laws."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.artifact.formats import RUNTIME
from sparsify.benchmarks.inference import budget
from sparsify.benchmarks.inference.benchmark import Latency
from sparsify.benchmarks.inference.budget import GRID, Fit, sparsity_for

ROW = Latency(
    engine="native",
    artifact="sparse",
    precision="fp32",
    threads=1,
    batch=1,
    frames=200,
    median_ms=1.0,
    p90_ms=1.0,
    min_ms=1.0,
    speedup=1.0,
    speedup_low=1.0,
    speedup_high=1.0,
    rtf=0.1,
    peak_bytes=1,
    bytes=1,
    zipped_bytes=1,
    path="model",
    sparsity=0.0,
)


class Imagined:
    """Masks that take 1 ms and 10 kB, and 9 ms and 990 kB more for all weights, plus noise."""

    noise: float = 0.0
    known: bool = True
    asked: list

    def __init__(self, *_):
        Imagined.asked = []

    def macs_of(self, sparsity):
        return round(1 - sparsity, 9) if self.known else None

    def measured(self, sparsities):
        self.asked.append(list(sparsities))
        return [Fit(self.row(each), self.macs_of(each)) for each in sparsities]

    def row(self, sparsity):
        left = 1 - sparsity
        late = self.noise * (len(self.asked) > 1)
        size = round(1e4 + 9.9e5 * left)
        return replace(ROW, median_ms=1 + 9 * left + late, bytes=size, sparsity=sparsity)


@pytest.fixture
def imagined(monkeypatch):
    monkeypatch.setattr(budget, "_Series", Imagined)
    monkeypatch.setattr(Imagined, "noise", 0.0)
    monkeypatch.setattr(Imagined, "known", True)
    return Imagined


def found(**limits):
    return sparsity_for(SimpleNamespace(path="model"), RUNTIME, limits, precision="fp32")


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "max_ms": st.floats(1.0, 10.5),
        "max_bytes": st.floats(1e4, 1.1e6),
        "max_macs": st.floats(0.001, 1.0),
    },
).filter(bool)


@settings(max_examples=60)
@given(limits=LIMITS)
def test_the_answer_was_measured_fits_and_is_hardly_sparser_than_it_must_be(limits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "_Series", Imagined)
        patch.setattr(budget, "describe_machine", lambda _: None)
        result = sparsity_for(None, RUNTIME, limits, precision="fp32")
    most = {
        "max_ms": lambda ms: (ms - 1) / 9,
        "max_bytes": lambda size: (size - 1e4) / 9.9e5,
        "max_macs": lambda share: share,
    }
    least = max(0.0, *(1 - most[name](value) for name, value in limits.items()))
    if result.answer is None:
        assert least > GRID[-1] - 1e-5
        assert result.best.sparsity == GRID[-1]
        return
    assert result.answer in result.fits
    assert result.answer.fits(limits)
    assert least - 1e-5 <= result.answer.sparsity <= least + 0.0011 or (
        result.answer.sparsity in GRID and result.answer.sparsity - least < 0.0011
    )
    assert sum(len(each) for each in Imagined.asked) <= len(GRID) + 4


def test_what_measured_too_slow_is_no_answer(imagined, monkeypatch):
    """Interpolation hits a time that the machine then misses by half a millisecond."""
    monkeypatch.setattr(imagined, "noise", 0.5)
    result = found(max_ms=2.5)
    assert result.answer.latency.median_ms <= 2.5
    guesses = [asked[-1] for asked in imagined.asked[1:]]
    assert guesses[0] == pytest.approx(0.834, abs=0.001)
    assert result.answer.sparsity == 0.9
    assert [each.sparsity for each in result.fits] == sorted({*GRID, *guesses})


def test_a_limit_on_what_is_not_known_is_refused(imagined, monkeypatch):
    monkeypatch.setattr(imagined, "known", False)
    with pytest.raises(budget.SparsifyError, match="--max-macs: the multiply-adds of"):
        found(max_macs=0.1)
    assert found(max_ms=5).answer.macs is None
