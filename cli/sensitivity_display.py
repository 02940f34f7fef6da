"""What a person sees of `sparsify inspect --sensitivity`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.text import Text

from sparsify.cli.display import out, say
from sparsify.cli.tables import Column, fitted
from sparsify.verification.sensitivity import LayerSensitivity, Sensitivity

HARMFUL = (0.5, 2.0)  # points of EER from which a cell is marked


def show_sensitivity(result: Sensitivity, order: Callable[[LayerSensitivity], Any] | None) -> None:
    """Prints a table: the EER with each layer pruned to each level, the rest left alone."""
    layers = sorted(result.layers, key=order) if order else result.layers
    probed = [
        Column(
            f"EER at {100 * level:g}%",
            [_cell(layer.probes[number].eer_percent, result.eer_percent) for layer in layers],
            rank=len(result.levels) - 1 - number,  # the highest level tells most
        )
        for number, level in enumerate(result.levels)
    ]
    others = len(result.levels)
    out.print(
        fitted(
            [
                Column("Pruned alone", [layer.name for layer in layers], left=True, name=True),
                Column("Size", [f"{layer.parameters:,}" for layer in layers], others + 1),
                Column("Sparsity", [f"{layer.sparsity:.2%}" for layer in layers], others),
                *probed,
                Column("Cosine", [f"{layer.probes[-1].cosine:.4f}" for layer in layers], 1),
            ]
        )
    )
    say(
        f"\nEER {result.eer_percent:.2f}% as it is; {result.utterances} utterances,"
        f" {result.trials:,} trials. The cosine is that to the unpruned embeddings, at"
        f" {100 * result.levels[-1]:g}%."
    )


def by_sensitivity(layer: LayerSensitivity) -> float:
    """Sorts the layer that changes the embeddings most to the top."""
    return layer.probes[-1].cosine


def _cell(eer_percent: float, whole: float) -> Text:
    harm = eer_percent - whole
    style = "bold red" if harm >= HARMFUL[1] else "magenta" if harm >= HARMFUL[0] else ""
    return Text(f"{eer_percent:.2f}", style=style)
