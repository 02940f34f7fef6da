"""A model without its dead channels: a smaller dense network with the same embeddings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.description import kinds_of
from sparsify.artifact.provenance import SHRUNK_FROM
from sparsify.artifact.saving import canonical_state
from sparsify.artifact.seals import source_digest
from sparsify.channels.removal import Removal, removal_from
from sparsify.errors import SparsifyError, first_line, refused
from sparsify.exporters.counting import count_work
from sparsify.exporters.networks import torch_network
from sparsify.exporters.parity import check_parity
from sparsify.exporters.sizes import Size, size_of
from sparsify.models.registry import Architecture, errors_of
from sparsify.recipe.sections import FrontEnd
from sparsify.sparsity.counting import sparsity_table
from sparsify.tensors import arrays_of

logger = logging.getLogger(__name__)

_EXACT = 1e-5
_MUCH = 0.1  # of the weights zero, so that somebody may expect it to become smaller


@dataclass(frozen=True)
class Shrinkage:
    """What became of a network.

    Attributes:
        before: Its size.
        after: Its size without dead channels.
        kept: How many dead channels stay, by what they stay for and by layer.
    """

    before: Size
    after: Size
    kept: Mapping[str, Mapping[str, int]]


def shrunk(artifact: Artifact) -> tuple[Artifact, Shrinkage]:
    """A model without its dead channels.

    Args:
        artifact: A model of ours, from any format.

    Returns:
        The smaller model, or the same one where nothing is dead, which a warning says; and by how
        much it is smaller.

    Raises:
        SparsifyError: The network cannot be followed or does not run with fewer channels.
    """
    model = artifact.build()
    known = artifact.architecture
    assert known is not None  # it was built
    bins = artifact.front_end.num_mel_bins
    with errors_of(known.name):
        try:
            removal = removal_from(model, bins, known.name, known.widths)
        except (RuntimeError, ValueError, LookupError) as error:
            raise refused(known.name, (1, bins), error) from error
    before = _size(artifact, model)
    _warn(artifact, model, removal)
    if not removal.kept:
        return artifact, Shrinkage(before, before, removal.stuck)
    smaller = removal.applied(model, known.name)
    left = Architecture(known.name, known.options, removal.widths)
    smaller.architecture = left  # type: ignore[assignment]
    _check(known.name, model, smaller, artifact.front_end)
    state = canonical_state(smaller)
    metadata = {
        **artifact.metadata,
        SHRUNK_FROM: source_digest(arrays_of(canonical_state(model))),
        "source_digest": source_digest(arrays_of(state)),
    }
    if known.is_code:
        metadata |= kinds_of(smaller, artifact.selection)
    made = artifact.with_state(state, architecture=left, metadata=metadata)
    return made, Shrinkage(before, _size(made, smaller), removal.stuck)


def _check(name: str, model: nn.Module, smaller: nn.Module, front_end: FrontEnd) -> None:
    """Refuses a network whose embeddings are others, as where its code counts on its channels."""
    try:
        parity = check_parity(
            torch_network(model), torch_network(smaller), front_end=front_end, tolerance=_EXACT
        )
    except (SparsifyError, LookupError, RuntimeError, ValueError) as error:
        raise SparsifyError(
            f"'{name}' cannot be shrunk: its code does not run with fewer channels, such as where"
            f" it has their number written down ({first_line(error)})"
        ) from error
    if not parity.passed:
        raise SparsifyError(
            f"'{name}' cannot be shrunk: without its dead channels its embeddings differ by up to"
            f" {parity.max_abs_error:.2g}"
        )


def _size(artifact: Artifact, model: nn.Module) -> Size:
    return size_of(sparsity_table(model, *artifact.selection).layers, count_work(artifact))


def _warn(artifact: Artifact, model: nn.Module, removal: Removal) -> None:
    for what, layers in removal.stuck.items():
        made = ", ".join(f"{count} of '{layer}'" for layer, count in layers.items())
        logger.warning("dead channels stay, since %s cannot be followed with fewer: %s", what, made)
    if removal.kept or removal.stuck:
        return
    sparsity = sparsity_table(model, *artifact.selection).sparsity
    how = ""
    if sparsity > _MUCH:
        how = (
            f": {sparsity:.0%} of its weights are zero, but in no whole channels; train by channel"
            " for that, as with --set methods.adabreg.group=output"
        )
    logger.warning("no channel of '%s' is dead, so that it stays as it is%s", artifact.path, how)
