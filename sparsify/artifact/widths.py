"""Whether the widths that a file says its network has fit together."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.utils.module_tracker import ModuleTracker

from sparsify.errors import SparsifyError

_FRAMES = 50  # that any network takes


def check_widths(model: nn.Module, bins: int, path: Path) -> None:
    """Refuses widths that do not fit together: they are a file's, not ours.

    Args:
        model: A network that became smaller, in eval mode.
        bins: Features of a frame.
        path: The file.

    Raises:
        SparsifyError: It does not compute; says in which layer.
    """
    with ModuleTracker() as tracker, torch.inference_mode():
        try:
            model(torch.zeros(1, _FRAMES, bins))
        except (RuntimeError, LookupError, ValueError) as error:
            layer = max(tracker.parents, key=len).partition(".")[2]
            where = f" in '{layer}'" if layer else ""
            reason = str(error).partition("\n")[0]
            raise SparsifyError(
                f"'{path}' is damaged: the widths of its network do not fit together{where}"
                f" ({reason[:200]})"
            ) from error
