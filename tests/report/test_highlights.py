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
        "seeds": [0],
        "metrics": metrics,
    }


def texts(means):
    results = {
        "means": means,
        "runs": [{"seconds": 60.0}] * 2,
        "failures": {},
        "standing": "clean",
        "test_sets": [{"name": "clean"}, {"name": "noisy"}],
    }
    return [["".join(p.itertext()) for p in tile] for tile in highlights(results)]


def test_as_good_as_dense_is_as_good_on_every_test_set():
    dense, good = entry("dense", None, 7.0, 10.0), entry("gmp", 0.9, 6.9, 9.5)
    fragile = entry("gmp", 0.99, 6.0, 13.0)
    tiles = {name: (figure, about) for name, figure, about in texts([dense, good, fragile])}
    assert tiles["Sparsest as good as dense"] == (
        "90 %",
        "gmp, by the means: 6.90 % against 7.00 % on clean, 9.50 % against 10.00 % on noisy",
    )
    assert tiles["Lowest EER of a sparse model"][0] == "6.00 %"
    assert "Sparsest as good as dense" not in {n for n, *_ in texts([dense, fragile])}
