"""What an export needs before any work is done. Importing this module takes no torch."""

from __future__ import annotations

import os
from pathlib import Path

from sparsify.artifact.formats import Format, format_named, masks_file
from sparsify.errors import SparsifyError
from sparsify.files import check_writable


def check_export(
    output: Path,
    format_name: str,
    layout: str,
    *,
    precision: str,
    target: str | None,
    calibration: Path | None,
    operating_point: str | None,
    quantise_audio: Path | None,
    masks: bool,
    with_front_end: bool,
    force: bool,
) -> Format:
    """The format that is to be written, if it can be as it is asked for.

    Args:
        output: As all others, see `sparsify.exporters.export.export_artifact`.

    Raises:
        SparsifyError: The format does not exist or has no such thing, or the output has the wrong
            suffix, exists already or cannot be written.
    """
    format_ = format_named(format_name)
    try:
        os.path.abspath(output).encode()
    except UnicodeEncodeError as error:  # onnxruntime and safetensors take no other names
        raise SparsifyError(f"cannot write '{output}': give a name in UTF-8") from error
    format_.check_precision(precision, layout)
    format_.check_target(target)
    if with_front_end:
        format_.check_front_end()
    if calibration or operating_point:
        format_.check_decision(target)
    format_.check_speech(precision, quantise_audio)
    format_.check_layout(layout)
    format_.check_name(output)
    beside = [masks_file(output)] if masks else []
    for each in (*format_.files(output), *beside):
        if each == output and format_.marker and each.exists():
            format_.check_replaceable(each)
        else:
            check_writable(each)
        if each.exists() and not force:
            raise SparsifyError(f"'{each}' exists: give --force to replace it")
    return format_
