"""Networks of one architecture that differ in width alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsify.errors import SparsifyError
from sparsify.models.registry import Architecture, default_options

WIDTH = "channels"  # the option by which every architecture here tells its width


def width_of(architecture: Architecture) -> int:
    """The width of a network: its option `channels`, given or by default.

    Raises:
        SparsifyError: The architecture has no such option.
    """
    options = {**default_options(architecture.name), **architecture.options}
    width = options.get(WIDTH)
    if not isinstance(width, int) or width < 1:
        raise SparsifyError(
            f"model '{architecture.name}' has no option '{WIDTH}', a whole number, for its width:"
            " give the factory one"
        )
    return width


def options_of_width(architecture: Architecture, width: int) -> dict[str, Any]:
    """The options of the same network at another width.

    Every width inside changes in proportion: `channels` and all options whose name ends in it, such
    as `aggregation_channels`. What goes in and out, features and embedding, stays.

    Args:
        architecture: The network as it is.
        width: What `channels` becomes.

    Raises:
        SparsifyError: The architecture has no such option.
    """
    scale = width / width_of(architecture)
    options: Mapping[str, Any] = {**default_options(architecture.name), **architecture.options}
    inner = {
        name: max(1, round(value * scale))
        for name, value in options.items()
        if name.endswith(f"_{WIDTH}") and isinstance(value, int)
    }
    return {**architecture.options, **inner, WIDTH: width}
