"""The commands as functions: what `sparsify.train`, `export`, `evaluate` and `embed` do.

They raise `SparsifyError` where a command would explain itself and exit, and print nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.artifact.formats import DENSE, SINGLE
from sparsify.artifact.loading import load_artifact
from sparsify.cli.train import resolved_recipe, write_page
from sparsify.corpus.layouts import list_speech
from sparsify.exporters.accuracy import accuracy_protocol
from sparsify.exporters.export import ExportReport, export_artifact
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.training.devices import Device
from sparsify.training.trainer import train as run_training
from sparsify.verification.embedding import embed as embeddings_of
from sparsify.verification.embedding import utterance_recordings
from sparsify.verification.embedding_tables import EmbeddingTable
from sparsify.verification.protocol import Outcome
from sparsify.verification.trials import TrialList


@dataclass(frozen=True)
class TrainedModel:
    """What a training ended with.

    Attributes:
        path: The run directory, which every function here takes as a model.
        sparsity: Share of exact zeros among the prunable parameters.
        eer_percent: Equal error rate on the validation speech.
        min_dcf: Minimum normalised detection cost there, at a prior of 0.01.
        parameters: Of the embedding network.
        nonzero: How many of these are not zero.
        collapsed: Why the model cannot verify speakers, if it cannot.
        summary: All that `summary.json` says.
    """

    path: Path
    sparsity: float
    eer_percent: float
    min_dcf: float
    parameters: int
    nonzero: int
    collapsed: str | None
    summary: Mapping[str, Any]


def train(
    output: str | Path,
    *,
    recipe: str | Path | None = None,
    data: str | Path | None = None,
    model: str | None = None,
    init_from: str | Path | None = None,
    method: str | None = None,
    target_sparsity: float | None = None,
    target_macs: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    device: Device = "auto",
    trust: bool = False,
) -> TrainedModel:
    """Trains a network to a sparsity, as `sparsify train` does.

    Args:
        output: The run directory; must not hold a run.
        recipe: A shipped recipe or a YAML file; `quickstart` for synthetic speakers, else
            `speech-mini`.
        data: Speech; synthetic speakers if not given.
        model: Architecture, or `module:factory`.
        init_from: Start from this model.
        method: What makes the network sparse; that of the recipe if not given.
        target_sparsity: Share of the prunable weights that is zero in the end.
        target_macs: In its place, the share of the multiply-adds that is left.
        seed: Of all that is random.
        settings: Any other keys of the recipe, such as `{"training.steps": 300}`.
        device: Where to compute.
        trust: Whether `init_from` or a teacher may name code as its network.

    Raises:
        SparsifyError: Something does not fit, or the training diverges.
    """
    given = {
        "recipe": recipe and str(recipe),
        "data": data and str(data),
        "model": model,
        "init_from": init_from and str(init_from),
        "method": method,
        "target_sparsity": target_sparsity,
        "target_macs": target_macs,
        "seed": seed,
        "lambda_rule": None,
    }
    described = resolved_recipe(given, trust, settings)
    summary = run_training(described, output, device=device, trust=trust)
    write_page(Path(output))
    return TrainedModel(
        path=Path(output),
        summary=summary,
        **{
            key: summary[key]
            for key in TrainedModel.__dataclass_fields__
            if key not in ("path", "summary")
        },
    )


def export(
    model: str | Path,
    output: str | Path,
    format: str = "safetensors",
    *,
    layout: str = DENSE,
    precision: str = SINGLE,
    target: str | None = None,
    shrink: bool = False,
    with_frontend: bool = False,
    quantize_audio: str | Path | None = None,
    tolerance: float | None = None,
    max_bytes: float | None = None,
    trials: str | Path | None = None,
    audio_root: str | Path | None = None,
    max_eer_loss: float | None = None,
    force: bool = False,
    trust: bool = False,
) -> ExportReport:
    """Writes a file to deploy and proves it equal to the model, as `sparsify export` does.

    Args:
        model: A run directory or an artifact of ours.
        output: The file or folder.
        format: `safetensors`, `onnx`, `mnn` or `native`.
        layout: Of `safetensors`: `dense`, `bitmask` or `coded`.
        precision: Type of the stored weights.
        target: Of `native`: what it is compiled for; this machine if not given.
        shrink: Take dead channels out first.
        with_frontend: Of `onnx`: samples in, features in the graph.
        quantize_audio: Speech that tells the ranges of int8 activations.
        tolerance: Largest accepted error relative to the embeddings' scale.
        max_bytes: Largest accepted size.
        trials: A trial list to evaluate the model and the file on.
        audio_root: Folder of its audio.
        max_eer_loss: How many points of EER in percent the file may lose on it.
        force: Replace what is there.
        trust: Whether the model may name code as its network.

    Raises:
        RefusedExport: The file would differ from the model, or be larger or lose more than that.
        SparsifyError: Something does not fit.
    """
    protocol = None
    if trials is not None and audio_root is not None:
        protocol = accuracy_protocol(TrialList(trials), Path(audio_root))
    return export_artifact(
        load_artifact(model, trust=trust),
        Path(output),
        format,
        layout,
        precision=precision,
        shrink=shrink,
        target=target,
        quantise_audio=None if quantize_audio is None else Path(quantize_audio),
        tolerance=tolerance,
        max_bytes=max_bytes,
        protocol=protocol,
        max_eer_loss=max_eer_loss,
        with_front_end=with_frontend,
        force=force,
    )


def evaluate(
    model: str | Path,
    trials: str | Path,
    audio_root: str | Path,
    *,
    threads: int | None = None,
    trust: bool = False,
) -> Outcome:
    """Measures a model on a trial list with cosine scores, as `sparsify evaluate` does.

    Args:
        model: A run directory or an exported file of any format.
        trials: The list.
        audio_root: Folder that its names start from.
        threads: Of the engine; all cores if not given.
        trust: Whether the model may name code as its network.

    Returns:
        Its figures are in `result`, their 95 % intervals over speakers in `intervals`;
        `outcome.loss_against(other)` compares two models on the same trials.

    Raises:
        SparsifyError: Something cannot be read, or the trials are all of one kind.
    """
    loaded = load_speaker_model(Path(model), threads, trust=trust)
    protocol = accuracy_protocol(TrialList(trials), Path(audio_root))
    return protocol.outcome(loaded.embedder, loaded.front_end)


def embed(
    model: str | Path, speech: str | Path, *, threads: int | None = None, trust: bool = False
) -> EmbeddingTable:
    """Embeds utterances, as `sparsify embed` does.

    Args:
        model: A run directory or an exported file of any format.
        speech: An audio file, a folder, a manifest or a corpus.
        threads: Of the engine; all cores if not given.
        trust: Whether the model may name code as its network.

    Raises:
        SparsifyError: Something cannot be read or embedded.
    """
    loaded = load_speaker_model(Path(model), threads, trust=trust)
    utterances = list_speech(Path(speech)).utterances
    recordings = utterance_recordings(utterances, loaded.front_end.sample_rate)
    return EmbeddingTable(
        tuple(utterance.key for utterance in utterances),
        tuple(utterance.speaker for utterance in utterances),
        embeddings_of(loaded.embedder, recordings, loaded.front_end),
        loaded.digest,
    )
