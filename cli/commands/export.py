"""The options of `sparsify export`."""

from __future__ import annotations

import inspect
from typing import Any

import click

from sparsify.artifact.formats import DENSE, about_layouts, layouts, targets
from sparsify.cli.options import (
    benchmark_option,
    calibration_option,
    common_options,
    format_option,
    max_bytes_option,
    max_eer_loss_option,
    operating_point_option,
    output_option,
    path_argument,
    precision_option,
    trial_options,
    trust_option,
)
from sparsify.cli.types import PATH, Number
from sparsify.defaults import TOLERANCE
from sparsify.exporters.preconditions import check_export


@click.command(
    "export",
    epilog="""\b
    Examples:
      sparsify export run --format onnx --output model.onnx --benchmark
      sparsify export run --format onnx --with-frontend --output from-samples.onnx
      sparsify export run --format safetensors --layout bitmask --output model.safetensors
      sparsify export run --format safetensors --layout coded --precision int8 \\
        --output small.safetensors
      sparsify export run --format mnn --output model.mnn --max-bytes 4e6
      sparsify export run --format onnx --shrink --output small.onnx
      sparsify export run --format onnx --precision int8 --quantize-audio train \\
        --output small.onnx --trials trials.txt --audio-root test --max-eer-loss 0.5
      sparsify export run --format native --precision fp16 --output model-c
      sparsify export run --format native --target wasm --calibration c.json --output model-web
    """,
)
@path_argument
@format_option()
@output_option("The file to write; for native, the folder.", metavar="FILE|DIR")
@click.option(
    "--layout",
    type=click.Choice(layouts()),
    default=DENSE,
    show_default=True,
    help=about_layouts(),
)
@precision_option()
@click.option(
    "--shrink",
    is_flag=True,
    help="Take dead channels out first: a smaller dense network with the same embeddings, for"
    " models that were trained by channel.",
)
@click.option(
    "--target",
    type=click.Choice(targets()),
    help="What native code is compiled for; for wasm with a page, which --calibration gives a"
    " threshold.  [default: this machine]",
)
@calibration_option
@operating_point_option
@click.option(
    "--quantize-audio",
    "quantise_audio",
    type=PATH,
    metavar="DATA",
    help="For --format onnx --precision int8: speech that tells the ranges of activations, whatever"
    " `sparsify embed` reads; a few utterances of it are read.",
)
@click.option(
    "--reduce-range",
    is_flag=True,
    help="For --quantize-audio: weights of seven bits, as x86 without VNNI needs them; for a file"
    " that also goes to other machines than this one.",
)
@click.option(
    "--tolerance",
    type=Number(min=0),
    metavar="F",
    help="Largest accepted difference of the embeddings, relative to their scale; given with a"
    f" --precision, also between the model and the rounded one.  [default: {TOLERANCE:g}]",
)
@trial_options(about="Evaluate the model and the file, too. ")
@max_eer_loss_option(
    "For --trials: write nothing and fail (exit code 1) when the EER in percent is higher by more"
    " than that."
)
@max_bytes_option("Write nothing and fail (exit code 1) when what is deployed has more bytes")
@click.option(
    "--masks",
    is_flag=True,
    help="Also write which weights are kept: boolean tensors in NAME.masks.safetensors, beside the"
    " output.",
)
@click.option(
    "--with-frontend",
    "with_front_end",
    is_flag=True,
    help="Put the filterbank into the graph (onnx only), which then takes samples [B, samples] in"
    " [-1, 1].",
)
@benchmark_option
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@trust_option
@common_options
def export_command(**given: Any) -> None:
    """Write a deployable file and prove it equal to the model.

    PATH is a run directory or an artifact of ours. The embeddings of the written file are compared
    with those of the model in PyTorch, on several lengths and batch sizes; of int8 layers, with
    those that onnx's own reference computes. When they differ, or the file is larger than
    --max-bytes or loses more than --max-eer-loss, no file is left and the exit code is 1.
    """
    if given["max_eer_loss"] is not None and given["trial_list"] is None:
        raise click.UsageError("--max-eer-loss needs --trials and --audio-root.")
    if given["reduce_range"] and given["quantise_audio"] is None:
        raise click.UsageError("--reduce-range serves --quantize-audio: give that, too.")
    asked = inspect.signature(check_export).parameters
    check_export(**{name: given[name] for name in asked})
    from sparsify.cli.export import run

    run(**given)
