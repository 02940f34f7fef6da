"""`sparsify evaluate`: error rates of a model, whatever its format, on a trial list."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from sparsify.artifact import Artifact, load_artifact
from sparsify.cli.display import (
    GateError,
    emit_json,
    json_option,
    out,
    track,
    verbosity_options,
)
from sparsify.errors import SparsifyError
from sparsify.exporters.embedders import load_embedder
from sparsify.recipe import FrontEnd, validate
from sparsify.verification.evaluate import Evaluation, evaluate
from sparsify.verification.trials import read_trials


@click.command(
    "evaluate",
    epilog="""\b
    Examples:
      sparsify evaluate run --trials trials.txt --audio-root test
      sparsify evaluate model.onnx --trials trials.txt --audio-root test --max-eer 5
    """,
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--trials",
    "trial_list",
    type=click.Path(path_type=Path),
    required=True,
    help="Trial list: one '1|0 enrolment test' per line.",
)
@click.option(
    "--audio-root",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder that the names in the trial list start from.",
)
@click.option(
    "--p-target",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Prior probability of a target trial, for minDCF.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the runtime; its default if unset."
)
@click.option(
    "--max-eer",
    type=click.FloatRange(0, 100),
    help="Exit with code 1 when the EER in percent is higher.",
)
@json_option
@verbosity_options
def evaluate_command(
    *,
    path: Path,
    trial_list: Path,
    audio_root: Path,
    p_target: float,
    threads: int | None,
    max_eer: float | None,
    as_json: bool,
) -> None:
    """Measure EER and minDCF on a trial list.

    PATH is a run directory, a .safetensors or an .onnx. Every utterance is embedded once, whole;
    scores are cosines.
    """
    trials = read_trials(trial_list)
    artifact = load_artifact(path)
    embedder = load_embedder(path, threads)
    front_end = _front_end(artifact)
    result = evaluate(embedder, trials, audio_root, front_end, p_target=p_target, track=track)
    if as_json:
        emit_json({"path": str(path), **asdict(result)})
    else:
        out.print(_table(result))
    if max_eer is not None and result.eer_percent > max_eer:
        raise GateError(f"the EER is {result.eer_percent:.3f} %, above --max-eer {max_eer:g} %")


def _front_end(artifact: Artifact) -> FrontEnd:
    """The features the model expects; for files that are not ours, those of sherpa-onnx."""
    if artifact.architecture is not None:
        return artifact.front_end
    stated = {key: text for key, text in artifact.metadata.items() if key == "sample_rate"}
    front_end = validate(FrontEnd, stated, f"metadata of '{artifact.path}'")
    for key, ours in (("normalize_samples", "0"), ("feature_normalize_type", "global-mean")):
        if artifact.metadata.get(key, ours) != ours:
            raise SparsifyError(
                f"'{artifact.path}' expects features with {key} '{artifact.metadata[key]}',"
                f" which are not computed here: only '{ours}' is"
            )
    logging.getLogger(__name__).warning(
        "%s does not say which features it expects: using those of sherpa-onnx at %d Hz",
        artifact.path,
        front_end.sample_rate,
    )
    return front_end


def _table(result: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("EER", f"{result.eer_percent:.3f} %")
    table.add_row(f"minDCF (p = {result.p_target:g})", f"{result.min_dcf:.4f}")
    table.add_row("trials", f"{result.trials:,}")
    table.add_row("  target", f"{result.targets:,}")
    table.add_row("  nontarget", f"{result.nontargets:,}")
    table.add_row("utterances", f"{result.utterances:,}")
    table.add_row("seconds", f"{result.seconds:.1f}")
    return table
