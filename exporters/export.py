"""An export from start to end: write, read back, compare, and only then put into place."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.artifact.formats import DENSE, SINGLE, masks_file
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.provenance import COLLAPSED, SHRUNK_FROM
from sparsify.artifact.rounding import rounded
from sparsify.artifact.saving import canonical_state, write_masks
from sparsify.artifact.seals import source_digest
from sparsify.defaults import TOLERANCE
from sparsify.errors import SparsifyError
from sparsify.exporters.accuracy import Accuracy, measure_accuracy
from sparsify.exporters.exporter import Exporter, exporter_of
from sparsify.exporters.networks import from_samples, torch_network
from sparsify.exporters.parity import Parity, check_parity, made_up_batches, waveform_batches
from sparsify.exporters.preconditions import check_export
from sparsify.exporters.quantise import Quantisation, quantisation
from sparsify.exporters.shrink import Shrinkage, shrunk
from sparsify.exporters.twin import dense_model
from sparsify.files import assembling, check_unread, size_bytes, zipped_bytes
from sparsify.progress import Track, phase, silent
from sparsify.tensors import arrays_of
from sparsify.verification.calibration import calibration_of, needs_calibration
from sparsify.verification.decision import Decision, read_decision
from sparsify.verification.protocol import EvaluationProtocol

logger = logging.getLogger(__name__)

QUANTISED_TOLERANCE = 5e-2
"""`TOLERANCE` where a value that lies between two levels may fall to either."""
# Lengths and sizes of batches that a slow reference computes, in frames and in seconds.
_QUANTISED_SHAPES = (20, 50), (2,)
_QUANTISED_SECONDS = ((1, 0.21), (2, 0.503))
_QUANTISED_SPEECH = 4  # utterances, the shortest


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: The file.
        format: Name of its format.
        layout: How it stores zeros, such as `dense`.
        precision: Type of the weights, such as `fp32`.
        bytes: Size of the file; of a folder, of the file in it that programs load.
        zipped_bytes: Its size after deflate, as in a zip archive.
        dense_bytes: Size of the dense twin (no zeros) in the same format and dense layout.
        dense_zipped_bytes: The twin's size after deflate.
        sparsity: Share of exact zeros among the prunable parameters, read back from the file.
        parity: How its embeddings compare with those of the PyTorch model; `None` where it cannot
            be run here.
        obstacle: Why it cannot.
        rounding: How the embeddings of the model in that precision compare with the original's.
        quantised: Of a file that computes in integers, which layers do not, and how far embeddings
            moved.
        accuracy: Error rates of the model and of the file, where they were asked for.
        shrunk: What taking out dead channels did, where that was wanted. The dense twin has them.
    """

    path: Path
    format: str
    layout: str
    precision: str
    bytes: int
    zipped_bytes: int
    dense_bytes: int
    dense_zipped_bytes: int
    sparsity: float
    parity: Parity | None
    obstacle: str | None = None
    rounding: Parity | None = None
    quantised: Mapping[str, Any] | None = None
    accuracy: Accuracy | None = None
    shrunk: Shrinkage | None = None


class RefusedExport(SparsifyError):  # noqa: N818 - it is one that was refused
    """The export is not good enough; nothing was left behind.

    Attributes:
        report: What would have been written.
    """

    def __init__(self, report: ExportReport, reason: str) -> None:
        super().__init__(f"'{report.path}' was not written: {reason}")
        self.report = report


class ParityError(RefusedExport):
    """The embeddings differ too much from the original's."""

    def __init__(self, report: ExportReport, difference: Parity, what: str) -> None:
        super().__init__(
            report,
            f"{what} (largest error {difference.max_abs_error:.2g},"
            f" smallest cosine {difference.cosine_min:.6f}), see --tolerance",
        )


def _check_finite(artifact: Artifact) -> None:
    """Refuses a model that computes nothing, before a comparison blames the file for it."""
    wrong = {
        name: int((~tensor.isfinite()).sum())
        for name, tensor in artifact.state.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    }
    if wrong:
        raise SparsifyError(
            f"'{artifact.path}' has {sum(wrong.values()):,} values that are NaN or infinite, the"
            f" first in '{next(iter(wrong))}': train it anew, with a lower learning rate"
        )


def export_artifact(
    artifact: Artifact,
    output: Path,
    format_name: str,
    layout: str = DENSE,
    *,
    precision: str = SINGLE,
    shrink: bool = False,
    target: str | None = None,
    calibration: Path | None = None,
    operating_point: str | None = None,
    quantise_audio: Path | None = None,
    reduce_range: bool = False,
    tolerance: float | None = None,
    max_bytes: float | None = None,
    protocol: EvaluationProtocol | None = None,
    max_eer_loss: float | None = None,
    masks: bool = False,
    with_front_end: bool = False,
    force: bool = False,
    track: Track = silent,
) -> ExportReport:
    """Exports a model and proves the file equal to it.

    Args:
        artifact: A model of ours, from any format.
        output: The file; on any error, what was there stays as it was.
        format_name: A format of `sparsify.artifact.formats` that is written.
        layout: One that the format has.
        precision: Type to store weights in; the file is compared with the model in that type.
        shrink: Take dead channels out first (see `sparsify.exporters.shrink`); the file is compared
            with the model without them, which was compared with the original.
        target: What it is compiled for, where the format is code; this machine if not given.
        calibration: Of the exported model, for a target that decides; the one beside the model, if
            there is one, if not given.
        operating_point: Which of its thresholds; `eer` if not given.
        quantise_audio: Speech that tells the ranges of int8 activations, where they are rounded.
        reduce_range: Whether int8 weights take seven bits even if this processor needs no such
            thing: for others that do, see `sparsify.exporters.quantise.overflows`.
        tolerance: Largest accepted error relative to the embeddings' scale (see `Parity`);
            `TOLERANCE` if not given. Of a model that is rounded, what the rounding may do, where it
            is given: the file is held to `TOLERANCE` in any case, or to `QUANTISED_TOLERANCE`.
        max_bytes: Largest accepted size of what is deployed, `ExportReport.bytes`.
        protocol: Trials to evaluate the model and the file on, with intervals.
        max_eer_loss: How many points of EER in percent the file may lose on these.
        masks: Write the masks beside the file, too (see `write_masks`).
        with_front_end: Write a file that takes samples, and computes the features itself.
        force: Replace the output if it exists.
        track: Reports progress.

    Raises:
        ParityError: The embeddings differ by more than that.
        RefusedExport: The file is larger than that, or loses more.
        SparsifyError: The format or layout does not exist, the output has the wrong suffix, exists
            already, is the model that would lose by it or cannot be written, the calibration is
            another model's, or the model cannot be exported.
    """
    format_ = check_export(
        output,
        format_name,
        layout,
        precision=precision,
        target=target,
        calibration=calibration,
        operating_point=operating_point,
        quantise_audio=quantise_audio,
        masks=masks,
        with_front_end=with_front_end,
        force=force,
    )
    if shrink or precision not in (SINGLE, artifact.precision):  # which nothing takes back
        check_unread(output, artifact.format.files(artifact.path))
    _warn_of_collapse(artifact)
    given_model, shrinkage, how, decision = artifact, None, None, None
    if shrink:
        with phase(track, "Taking out dead channels"):
            artifact, shrinkage = shrunk(artifact)
    if quantise_audio is not None:
        how = quantisation(
            quantise_audio, artifact.front_end, reduce_range=reduce_range, track=track
        )
    original, artifact = artifact, artifact if how else rounded(artifact, precision)
    given = TOLERANCE if tolerance is None else tolerance
    _check_finite(original)
    exact = given if artifact is original else min(given, TOLERANCE)
    if target in format_.deciding:
        decision = _decision(given_model, artifact, calibration, operating_point)
    exporter = exporter_of(format_, target, decision, how, with_front_end=with_front_end)
    with (
        assembling(output) as temporary,
        TemporaryDirectory() as folder,
        ThreadPoolExecutor() as aside,
    ):
        with phase(track, f"Writing {output.name}"):
            exporter.write(artifact, temporary, layout)
            written = load_artifact(temporary, trust=artifact.trusted)
            if masks:
                write_masks(written, masks_file(temporary))
        file, twin = format_.deployed_file(temporary), Path(folder, output.name)
        with phase(track, "Writing its dense twin"):
            if artifact.metadata.get(SHRUNK_FROM) != given_model.metadata.get(SHRUNK_FROM):
                plain = exporter_of(format_, target, with_front_end=with_front_end)
                plain.write(dense_model(given_model), twin, DENSE)
            else:
                exporter.twin(written, twin)
        dense = format_.deployed_file(twin)
        # That takes as long as the comparison, which uses one core.
        zipped, dense_zipped = (aside.submit(zipped_bytes, each) for each in (file, dense))
        with phase(track, "Comparing it with the model"):
            obstacle = exporter.obstacle(written)
            parity = None if obstacle else _parity(artifact, written, exporter, how, exact)
            rounding = _rounding(original, artifact, written, exporter, how, tolerance)
        accuracy = None
        if protocol is not None:
            accuracy = measure_accuracy(given_model, written, exporter, protocol, track)
        report = ExportReport(
            path=output,
            format=format_.name,
            layout=layout,
            precision=written.precision,
            bytes=size_bytes(file),
            zipped_bytes=zipped.result(),
            dense_bytes=size_bytes(dense),
            dense_zipped_bytes=dense_zipped.result(),
            sparsity=weights_table(written).sparsity,
            parity=parity,
            obstacle=obstacle,
            rounding=rounding,
            quantised=written.quantised_how,
            accuracy=accuracy,
            shrunk=shrinkage,
        )
        _refuse(report, max_bytes, max_eer_loss)
    return report


def _refuse(
    report: ExportReport,
    max_bytes: float | None,
    max_eer_loss: float | None,
) -> None:
    """Refuses a file that is not what it must be.

    Raises:
        RefusedExport: It is not; a value that is no number is within no limit.
    """
    if report.parity is not None and not report.parity.passed:
        raise ParityError(report, report.parity, "the exported network differs from the model")
    if report.rounding and report.rounding.passed is False:
        what = f"{report.precision} weights move the embeddings too far"
        raise ParityError(report, report.rounding, what)
    loss = report.accuracy.loss.eer if report.accuracy else None
    if loss is not None and max_eer_loss is not None and not loss <= max_eer_loss:
        reason = f"it loses {loss:.4g} points of EER, more than --max-eer-loss {max_eer_loss:.4g}"
        raise RefusedExport(report, reason)
    if max_bytes is not None and not report.bytes <= max_bytes:
        reason = f"it has {report.bytes:,} bytes, more than --max-bytes {max_bytes:,.0f}"
        raise RefusedExport(report, reason)


def _warn_of_collapse(artifact: Artifact) -> None:
    if collapsed := artifact.metadata.get(COLLAPSED):
        logger.warning("'%s' has collapsed in training: %s", artifact.path, collapsed)


def _decision(
    original: Artifact, artifact: Artifact, given: Path | None, operating_point: str | None
) -> Decision | None:
    """How the export decides, by the calibration that was named or the one beside the model."""
    file = calibration_of(original.path, given)
    if file is None:
        if operating_point is not None:
            raise SparsifyError(needs_calibration(operating_point))
        return None
    if given is None and artifact is not original:
        logger.warning(
            "'%s' is of the model as it was before, so the page has no threshold: calibrate the"
            " export, and export again with --calibration",
            file,
        )
        return None
    digest = source_digest(arrays_of(canonical_state(artifact.build())))
    return read_decision(file, digest, operating_point or "eer")


def _parity(
    artifact: Artifact,
    written: Artifact,
    exporter: Exporter,
    how: Quantisation | None,
    tolerance: float,
) -> Parity:
    """How a file compares with what it must compute; of int8 activations, on speech, too."""
    front_end, reference = artifact.front_end, exporter.reference(artifact, written)
    batches: Iterable[NDArray[np.float32]]
    if written.takes_samples:
        reference = from_samples(reference, front_end)
        sizes = (_QUANTISED_SECONDS,) if written.quantised else ()
        batches = waveform_batches(front_end.sample_rate, *sizes)
    else:
        shapes = _QUANTISED_SHAPES if written.quantised else ()
        batches = made_up_batches(front_end, *shapes)
    if how is not None:
        batches = chain(batches, (each[None] for each in _speech(how, written)[:_QUANTISED_SPEECH]))
    return check_parity(
        reference,
        exporter.network(written),
        tolerance=QUANTISED_TOLERANCE if written.quantised else tolerance,
        batches=batches,
    )


def _speech(how: Quantisation, written: Artifact) -> Sequence[NDArray[np.float32]]:
    """What a file is given of the speech that told its ranges, the shortest first."""
    return sorted(how.waveforms if written.takes_samples else how.features, key=len)


def _rounding(
    original: Artifact,
    artifact: Artifact,
    written: Artifact,
    exporter: Exporter,
    how: Quantisation | None,
    tolerance: float | None,
) -> Parity | None:
    """What fewer digits do to embeddings, if there are fewer; of int8 activations, on speech."""
    if how is None and artifact is original:
        return None
    reference = torch_network(original.build())
    if how is not None:
        network, batches = exporter.network(written), [e[None] for e in _speech(how, written)]
        if written.takes_samples:
            reference = from_samples(reference, original.front_end)
    else:
        network, batches = torch_network(artifact.build()), None
    return check_parity(
        reference,
        network,
        front_end=artifact.front_end,
        tolerance=tolerance,
        batches=batches,
    )
