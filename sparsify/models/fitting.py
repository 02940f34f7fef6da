"""Whether a state dict fits a network, and in which three ways it may not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeVar

from sparsify.models.names import COUNTER
from sparsify.models.recognition import FIRST_LAYERS, Shaped, Shapes, recognised

T = TypeVar("T", bound=Shaped)
logger = logging.getLogger(__name__)

_MOST_NAMED = 3


def named_as(state: Mapping[str, T], expected: Shapes) -> dict[str, T]:
    """A state dict under the names of a network, where something before all of them hides it.

    What does not begin so is left out: it belongs to something else, such as a classifier.

    Args:
        state: The state dict.
        expected: That of the network.

    Returns:
        The state dict; as it was if nothing makes it fit.
    """
    wanted = [name for name in expected if not name.endswith(COUNTER)]
    if not wanted or all(name in state for name in wanted):
        return dict(state)
    prefixes = {name.removesuffix(wanted[0]) for name in state if name.endswith(wanted[0])}
    for prefix in sorted(prefixes, key=len):
        if all(prefix + name in state for name in wanted):
            found = {
                name.removeprefix(prefix): tensor
                for name, tensor in state.items()
                if name.startswith(prefix)
            }
            if others := [name for name in state if not name.startswith(prefix)]:
                logger.warning(
                    "of %s the network '%s' is taken, without %s",
                    _named(len(state), "tensor"),
                    prefix.rstrip("."),
                    _listed(others),
                )
            return found
    return dict(state)


def misfits(state: Shapes, expected: Shapes, *, graph: bool = False) -> list[str]:
    """What keeps a state dict from being that of a network, in a sentence each for three ways.

    Args:
        state: The state dict.
        expected: That of the network.
        graph: Whether it is a graph's, which has constants beside the parameters.

    Returns:
        Sentences about what is missing, unknown, and of another shape; empty if it fits.
    """
    missing = [name for name in expected if name not in state and not name.endswith(COUNTER)]
    unknown = [] if graph else [name for name in state if name not in expected]
    other = [
        f"'{name}' is {tuple(state[name].shape)} and should be {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    sentences = []
    if missing:
        sentences.append(f"it lacks {_listed(missing)}")
    if unknown:
        sentences.append(f"the network has no {_listed(unknown)}")
    if other:
        more = f", and {len(other) - 1} more are of another shape" if len(other) > 1 else ""
        sentences.append(f"{other[0]}{more}")
    return sentences


def proposal(state: Shapes) -> str:
    """What to say of a state dict that is that of a registered network, whatever is before it.

    Returns:
        An option of the command line; nothing if there is no such network.
    """
    prefixes = {name.removesuffix(f) for f in FIRST_LAYERS for name in state if name.endswith(f)}
    for prefix in sorted(prefixes, key=len):
        part = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        found = recognised(part)
        if found is not None:
            options = ", ".join(f"{key}: {_plain(value)}" for key, value in found.options.items())
            return (
                f"it looks like a {found.name}: --model {found.name}"
                f" --set 'model.options={{{options}}}'"
            )
    return ""


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_MOST_NAMED])
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def _named(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
