"""An export from start to end: write, read back, compare, and only then put into place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sparsify.artifact.artifact import Artifact, Layout, load_artifact, weights_table
from sparsify.errors import SparsifyError
from sparsify.exporters.embedders import network_of, torch_network
from sparsify.exporters.onnx.writing import export_onnx
from sparsify.exporters.parity import Parity, compare
from sparsify.exporters.safetensors import export_safetensors
from sparsify.exporters.twin import write_dense_twin
from sparsify.files import check_writable, replacing, zipped_bytes

Format = Literal["safetensors", "onnx"]


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: The file.
        format: `safetensors` or `onnx`.
        layout: `dense` or `bitmask`.
        precision: Type of the weights, `fp32`.
        bytes: Size of the file.
        zipped_bytes: Its size after deflate, as in a zip archive.
        dense_bytes: Size of the dense twin (no zeros) in the same format and dense layout.
        dense_zipped_bytes: The twin's size after deflate.
        sparsity: Share of exact zeros among the prunable parameters, read back from the file.
        parity: How its embeddings compare with those of the PyTorch model.
    """

    path: Path
    format: Format
    layout: Layout
    precision: str
    bytes: int
    zipped_bytes: int
    dense_bytes: int
    dense_zipped_bytes: int
    sparsity: float
    parity: Parity


class ParityError(SparsifyError):
    """The written network does not compute what the original does; nothing was left behind.

    Attributes:
        report: What would have been written.
    """

    def __init__(self, report: ExportReport) -> None:
        super().__init__(
            f"'{report.path}' was not written: the exported network differs from the model"
            f" (largest error {report.parity.max_abs_error:.2g},"
            f" smallest cosine {report.parity.cosine_min:.6f}), see --tolerance"
        )
        self.report = report


def export_artifact(
    artifact: Artifact,
    output: Path,
    format_: Format,
    layout: Layout = "dense",
    *,
    tolerance: float = 1e-4,
    force: bool = False,
) -> ExportReport:
    """Exports a model and proves the file equal to it.

    Args:
        artifact: A model of ours, from any format.
        output: The file; on any error, what was there stays as it was.
        format_: `safetensors` or `onnx`.
        layout: `dense`, or for safetensors `bitmask`.
        tolerance: Largest accepted error relative to the embeddings' scale (see `Parity`).
        force: Replace the output if it exists.

    Raises:
        ParityError: The embeddings differ by more than that.
        SparsifyError: The layout does not exist in that format, the output has the wrong suffix,
            exists already or cannot be written, or the model cannot be exported (see
            `export_onnx` and `export_safetensors`).
    """
    _check(output, format_, layout, force)
    with replacing(output) as temporary:
        if format_ == "onnx":
            export_onnx(artifact, temporary)
        else:
            export_safetensors(artifact, temporary, layout)
        written = load_artifact(temporary, trust=artifact.trusted)
        parity = compare(
            torch_network(artifact.build()),
            network_of(written),
            bins=artifact.front_end.num_mel_bins,
            tolerance=tolerance,
        )
        with TemporaryDirectory() as folder:
            twin = Path(folder) / f"dense.{format_}"
            write_dense_twin(written, twin)
            report = ExportReport(
                path=output,
                format=format_,
                layout=layout,
                precision="fp32",
                bytes=temporary.stat().st_size,
                zipped_bytes=zipped_bytes(temporary),
                dense_bytes=twin.stat().st_size,
                dense_zipped_bytes=zipped_bytes(twin),
                sparsity=weights_table(written).sparsity,
                parity=parity,
            )
        if not parity.passed:
            raise ParityError(report)
    return report


def _check(output: Path, format_: Format, layout: Layout, force: bool) -> None:
    """Finds what would make an export fail before any work is done."""
    if format_ == "onnx" and layout != "dense":
        raise SparsifyError("ONNX has no bitmask layout: leave out --layout or export safetensors")
    if output.suffix != f".{format_}":
        raise SparsifyError(f"cannot write '{output}': the name must end in .{format_}")
    check_writable(output)
    if output.exists() and not force:
        raise SparsifyError(f"'{output}' exists: give --force to replace it")
