"""What a person sees of `sparsify inspect --sensitivity`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.table import Table
from rich.text import Text

from sparsify.cli.display import out
from sparsify.verification.sensitivity import LayerSensitivity, Sensitivity

HARMFUL = (0.5, 2.0)  # points of EER from which a cell is marked


def show_sensitivity(result: Sensitivity, order: Callable[[LayerSensitivity], Any] | None) -> None:
    """Prints a table: the EER with each layer pruned to each level, the rest left alone."""
    view = Table(box=None, pad_edge=False)
    view.add_column("Pruned alone", no_wrap=True)
    for heading in ("Size", "Sparsity", *(f"EER at {100 * level:g} %" for level in result.levels)):
        view.add_column(heading, justify="right")
    view.add_column("Cosine", justify="right")
    layers = sorted(result.layers, key=order) if order else result.layers
    for layer in layers:
        view.add_row(
            layer.name,
            f"{layer.parameters:,}",
            f"{layer.sparsity:.2%}",
            *(_cell(probe.eer_percent, result.eer_percent) for probe in layer.probes),
            f"{layer.probes[-1].cosine:.4f}",
        )
    out.print(view)
    out.print(
        f"\nEER {result.eer_percent:.2f} % as it is; {result.utterances} utterances,"
        f" {result.trials:,} trials. The cosine is that to the unpruned embeddings, at"
        f" {100 * result.levels[-1]:g} %.",
        markup=False,
        soft_wrap=True,
    )


def by_sensitivity(layer: LayerSensitivity) -> float:
    """Sorts the layer that changes the embeddings most to the top."""
    return layer.probes[-1].cosine


def _cell(eer_percent: float, whole: float) -> Text:
    harm = eer_percent - whole
    style = "red" if harm >= HARMFUL[1] else "yellow" if harm >= HARMFUL[0] else ""
    return Text(f"{eer_percent:.2f}", style=style)
