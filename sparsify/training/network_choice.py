"""The network that a training is told to take; where it is only named, no torch is imported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sparsify.errors import SparsifyError


def network_assignments(
    model: str | None, init_from: str | None, *, trust: bool = False
) -> list[str]:
    """The `key=value` pairs of a recipe that a choice of network stands for.

    Args:
        model: Name of an architecture, whose options are its defaults.
        init_from: A model to start from; its network and front end go with it, as far as it knows
            them and `model` is no other.
        trust: Whether `init_from` may name code as its network; `model` may anyway.

    Raises:
        SparsifyError: `init_from` cannot be read, or names code and is not trusted.
    """
    named = {} if model is None else {"model.name": model, "model.options": {}, "model.widths": {}}
    if init_from is None:
        return _assignments(named)
    from sparsify.artifact.loading import load_artifact  # noqa: PLC0415 - takes torch

    try:
        artifact = load_artifact(init_from, trust=trust)
        if model is None:
            artifact.check_trust()
    except SparsifyError as error:
        raise SparsifyError(f"--init-from: {error}") from error
    known = artifact.architecture
    changes: dict[str, Any] = {"model.init_from": init_from, **named}
    if known is not None:
        changes["front_end"] = artifact.front_end.model_dump(mode="json")
        if model in (None, known.name):
            named = {
                "name": known.name,
                "options": dict(known.options),
                "widths": dict(known.widths),
            }
            changes |= {f"model.{key}": value for key, value in named.items()}
    return _assignments(changes)


def _assignments(changes: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]
