"""What `sparsify export` shows: sizes, latencies and error rates before and after, a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sparsify.artifact.formats import DENSE, SINGLE
from sparsify.benchmarks.inference.benchmark import Benchmark
from sparsify.cli.benchmark_display import show_benchmark
from sparsify.cli.display import human_bytes, out, say
from sparsify.cli.tables import Column, fitted
from sparsify.exporters.export import ExportReport
from sparsify.exporters.shrink import Shrinkage


def show_export(report: ExportReport, result: Benchmark | None) -> None:
    """Prints a table of the file and of what it was made from, and what is proven."""
    sizes = [(report.bytes, report.zipped_bytes), (report.dense_bytes, report.dense_zipped_bytes)]
    shares = [f"{zipped / report.dense_zipped_bytes:.1%}" for _, zipped in sizes]

    def column(heading: str, cells: Sequence[str], before: str = "", rank: int = 0) -> Column:
        """Of the file, of the model before it was exported if that was evaluated, of the twin."""
        first, twin = cells
        all_cells = [first, before, twin] if report.accuracy else [first, twin]
        return Column(heading, all_cells, rank=rank, left=not heading)

    smaller = report.shrunk is not None and report.shrunk.before != report.shrunk.after
    told = ["shrunk"] if smaller else []
    told += [f"{report.sparsity:.2%} sparse"] if report.sparsity or not smaller else []
    stored = [report.layout] if report.layout != DENSE else []
    stored += [report.precision] if report.precision != SINGLE else []
    told += [" ".join(stored)] if stored else []
    kinds = (", ".join(told), "dense twin")
    columns = [
        column("", kinds, "the model before"),
        column("Size", [human_bytes(size) for size, _ in sizes]),
        column("Zipped", [human_bytes(zipped) for _, zipped in sizes]),
        column("Share of dense, zipped", shares, rank=2),
    ]
    if result:
        columns.append(column("Latency", _latencies(result)))
    if report.accuracy:
        after, before = report.accuracy.after.eer_percent, report.accuracy.before.eer_percent
        columns.append(column("EER", [f"{after:.2f}%", ""], f"{before:.2f}%"))
    out.print(fitted(columns))
    say(f"\nWrote {report.path}: {_verdict(report)}")
    for sentence in _details(report):
        say(sentence)
    if result:
        show_benchmark(result)


def _latencies(result: Benchmark) -> list[str]:
    """Of the file and of its dense twin, in the first setting."""
    baseline = result.rows[0]
    setting = (baseline.threads, baseline.batch, baseline.frames)
    fastest = next(
        each
        for each in result.fastest(baseline.path)
        if (each.threads, each.batch, each.frames) == setting
    )
    return [f"{each.median_ms:.2f} ms" for each in (fastest, baseline)]


def _verdict(report: ExportReport) -> str:
    if report.parity is None:
        return f"not compared with the model, since {report.obstacle}"
    error = f"largest error {report.parity.max_abs_error:.1e}"
    cosine = f"smallest cosine {report.parity.cosine_min:.6f}"
    if report.rounding is None:
        return f"equal to the model ({error}, {cosine})"
    moved = (
        f"rounding moves embeddings by up to {report.rounding.max_abs_error:.1e} (smallest cosine"
        f" {report.rounding.cosine_min:.6f})"
    )
    if report.quantised is not None:
        return f"computes what its int8 graph means ({error}, {cosine}); {moved}"
    return f"equal to the model in {report.precision} ({error}, {cosine}); {moved}"


def _details(report: ExportReport) -> Iterator[str]:
    """What else is to be said of channels, of int8 layers and of error rates."""
    if report.shrunk is not None:
        yield _shrinkage(report.shrunk)
    if report.quantised is not None:
        layers = report.quantised["float_layers"]
        bits = ", weights of seven bits" if report.quantised["reduce_range"] else ""
        kept = ", ".join(layers) or "no layers"
        yield (
            f"In float32 stay {kept}{bits}. Embeddings of speech move by"
            f" {report.quantised['distance']:.1e} (one minus the cosine), with all layers in int8"
            f" by {report.quantised['distance_of_all']:.1e}."
        )
    if report.accuracy:
        loss = report.accuracy.loss
        low, high = loss.interval
        yield (
            f"EER {loss.eer:+.2f} points against the model ({loss.percent:g}% interval"
            f" {low:+.2f} to {high:+.2f}, {report.accuracy.after.trials:,} trials)."
        )


def _shrinkage(shrunk: Shrinkage) -> str:
    before, after = shrunk.before, shrunk.after
    parts = [
        f"{after.channels:,} of {before.channels:,} channels",
        f"{after.parameters:,} of {before.parameters:,} parameters",
    ]
    if before.multiply_adds and after.multiply_adds is not None:
        parts.append(f"{after.multiply_adds / before.multiply_adds:.1%} of the multiply-adds")
    return f"Left are {', '.join(parts)}."
