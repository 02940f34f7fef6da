"""The first lines of a report do not promise what only one test set shows."""

from sparsify.report.highlights import highlights


def entry(method, target, clean, noisy):
    figures = {"eer_percent": clean, "clean.eer_percent": clean, "noisy.eer_percent": noisy}
    figures |= {"bytes": 4e6, "bitmask_bytes": 1e6}
    cell = method if target is None else f"{method}@{target}"
    metrics = {name: {"mean": value} for name, value in figures.items()}
    return {
        "cell": cell,
        "method": method,
        "target_sparsity": target,
        "width": None,
        "seeds": [0],
        "metrics": metrics,
    }


def texts(means):
    """The heading of the first card, and the figures and sentences of all by their names."""
    results = {
        "means": means,
        "runs": [{"seconds": 60.0, "latency": None}] * 2,
        "differences": [],
        "failures": {},
        "standing": "clean",
        "test_sets": [{"name": "clean"}, {"name": "noisy"}],
    }
    drawn = highlights(results)
    paragraphs = [each.text for each in drawn.iter("p")]
    return "".join(next(drawn.iter("h2")).itertext()), {
        name: (figure, about)
        for name, figure, about in zip(*(paragraphs[n::3] for n in range(3)), strict=True)
    }


def test_as_good_as_dense_is_as_good_on_every_test_set():
    dense, good = entry("dense", None, 7.0, 10.0), entry("gmp", 0.9, 6.9, 9.5)
    fragile = entry("gmp", 0.99, 6.0, 13.0)
    heading, tiles = texts([dense, good, fragile])
    assert heading.startswith("gmp at 90% against densethe sparsest")
    assert tiles["EER"] == ("6.90%", "0.10 points gained against 7.00%, on clean speech")
    assert tiles["Lowest EER of a sparse model"][0] == "6.00%"
    heading, _ = texts([dense, fragile])
    assert heading == "gmp at 99% against densethe lowest EER of a sparse model"
