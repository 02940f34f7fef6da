"""A trained model from a file: what is known of it, and the network built from it.

Importing this module takes no torch; tensors and networks do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsify.arrays import Array
from sparsify.artifact.fidelity import outline_in, said_of
from sparsify.artifact.formats import DENSE, SAMPLES, SINGLE, Format
from sparsify.artifact.provenance import (
    ABSENT,
    COLLAPSED,
    INPUT,
    MEAN,
    PRECISION,
    QUANTISED,
    ROUNDED_FROM,
    SHRUNK_FROM,
    TIED,
    kinds_in,
    names_in,
)
from sparsify.documents import parse_json, parse_yaml
from sparsify.errors import SparsifyError
from sparsify.models import toolkits
from sparsify.models.fitting import misfits, named_as, proposal
from sparsify.models.outlines import Outline
from sparsify.models.recognition import Shapes
from sparsify.models.registry import Architecture, architecture_of, errors_of, require_trust
from sparsify.recipe.recipe import Recipe, parse_recipe
from sparsify.recipe.sections import FrontEnd
from sparsify.sparsity.selection import EVERYTHING, Selection
from sparsify.sparsity.table import Kind, SparsityTable
from sparsify.sparsity.zeros import table_from_arrays, table_of

if TYPE_CHECKING:
    from torch import Tensor, nn

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifact:
    """The content of a model file.

    Attributes:
        path: The file (in a run directory, its `model.safetensors`).
        format: Its format.
        arrays: Dense tensors by name, as numpy has them.
        architecture: How to rebuild the network; `None` where that is not known.
        front_end: The features the network expects; the default where they are not known.
        metadata: All strings the file carries.
        operators: In a graph, the operator that consumes each tensor.
        graph: Whether the tensors are those of a graph, which has constants beside the parameters.
        obstacle: Why the network, though known, cannot be rebuilt.
        table: The network's parameters, where the tensors are not all of them.
        left_out: Sentences about what may be weights and was not counted.
        beside: Files beside it that have some of its values.
        trusted: Whether the file may name code that building the network imports and runs.
    """

    path: Path
    format: Format
    arrays: dict[str, Array]
    architecture: Architecture | None
    front_end: FrontEnd
    metadata: dict[str, str]
    operators: Mapping[str, str] = field(default_factory=dict)
    graph: bool = False
    obstacle: str | None = None
    table: SparsityTable | None = None
    left_out: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()
    trusted: bool = False

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The same tensors as PyTorch has them, on the CPU."""
        from sparsify.tensors import tensors_of  # noqa: PLC0415

        return tensors_of(self.arrays)

    def with_state(self, state: Mapping[str, Tensor], **changes: Any) -> Artifact:
        """The same model with other tensors, and whatever else is given."""
        from sparsify.tensors import arrays_of  # noqa: PLC0415

        return replace(self, arrays=arrays_of(state), **changes)

    @cached_property
    def recipe(self) -> Recipe | None:
        """The recipe that made the model, if the file knows it."""
        text = self.metadata.get("recipe")
        if text is None or self.architecture is None:
            return None
        return parse_recipe(parse_yaml(text, f"the recipe in '{self.path}'"), str(self.path))

    @property
    def layout(self) -> str:
        """How the file stores its zeros, such as `dense`."""
        return self.metadata.get("layout", DENSE) if self.architecture else DENSE

    @property
    def measured(self) -> dict[str, str]:
        """Metadata that neither weights nor recipe can tell."""
        keys = (COLLAPSED, MEAN, PRECISION, ROUNDED_FROM, SHRUNK_FROM)
        return {key: self.metadata[key] for key in keys if key in self.metadata}

    @property
    def precision(self) -> str:
        """The type that its weights are of, or were rounded to."""
        return self.metadata.get(PRECISION, SINGLE)

    @property
    def quantised(self) -> bool:
        """Whether it computes in integers, and not only stores them."""
        return self.table is not None and QUANTISED in self.metadata and PRECISION in self.metadata

    @property
    def quantised_how(self) -> dict[str, Any] | None:
        """Which layers do not, and other details, if it does.

        Raises:
            SparsifyError: The metadata are damaged.
        """
        if not self.quantised:
            return None
        found = parse_json(self.metadata[QUANTISED], f"{QUANTISED} of '{self.path}'")
        if not isinstance(found, dict):
            raise SparsifyError(f"'{self.path}' has damaged metadata: {QUANTISED} is no object")
        return found

    @property
    def takes_samples(self) -> bool:
        """Whether the network in the file computes its features itself."""
        return self.graph and self.metadata.get(INPUT) == SAMPLES

    @property
    def absent(self) -> frozenset[str]:
        """Tensors that the network does not use, which a graph does not have.

        Raises:
            SparsifyError: The metadata are damaged.
        """
        if not self.graph or self.architecture is None:
            return frozenset()
        return frozenset(map(str, names_in(self.metadata, ABSENT, self.path, list)))

    @property
    def selection(self) -> Selection:
        """What might become sparse in training."""
        return self.recipe.model.selection if self.recipe else EVERYTHING

    @property
    def rebuildable(self) -> bool:
        """Whether the network can be built from the file, if its tensors fit."""
        return self.architecture is not None and self.obstacle is None

    def _outline(self, selection: Selection = EVERYTHING) -> Outline:
        """The network without values, of a registered name."""
        assert self.architecture is not None
        return outline_in(self.path, self.architecture, selection)

    def known_architecture(self) -> Architecture:
        """How to rebuild the network.

        Raises:
            SparsifyError: The file does not say which network it is; says what to do.
        """
        if self.architecture is not None:
            return self.architecture
        raise SparsifyError(
            self.obstacle or f"'{self.path}' does not say which network it is: {self._remedy}"
        )

    @property
    def _remedy(self) -> str:
        """What to do about a network that is not known."""
        if self.graph:
            return "give the run or the checkpoint that it was exported from"
        return (
            "build that with sparsify.build_model, load the state dict and use sparsify.save_model"
        )

    def check_trust(self) -> None:
        """Refuses a file that names code as its network, unless it is trusted.

        Raises:
            SparsifyError: It does.
        """
        if self.architecture is not None:
            require_trust(self.architecture.name, f"'{self.path}'", trust=self.trusted)

    def build(self) -> nn.Module:
        """The network with these weights, on the CPU, in eval mode.

        Raises:
            SparsifyError: The file does not say which network it is, its tensors do not fit, or it
                names code and is not trusted.
        """
        if self.obstacle:
            raise SparsifyError(self.obstacle)
        known = self.known_architecture()
        self.check_trust()
        if not known.is_code:
            self._fitting(self._outline().state, known.name)
        with said_of(self.path):
            model = known.build()
        self.load_into(model)
        if known.widths:
            from sparsify.artifact.widths import check_widths  # noqa: PLC0415

            with errors_of(known.name):
                check_widths(model.eval(), self.front_end.num_mel_bins, self.path)
        return model.eval()

    def kinds(self) -> dict[str, Kind] | None:
        """What each parameter is, by name, without building anything; `None` if that is not known.

        Raises:
            SparsifyError: The tensors do not fit the architecture.
        """
        if self.architecture is None:
            return None
        if not self.architecture.is_code:
            outline = self._outline(self.selection)
            self._fitting(outline.state, self.architecture.name)
            own = outline.kinds
            return {name: kind for name, kind in own.items() if name not in self.absent}
        kinds = kinds_in(self.metadata, self.path)
        if kinds is None:
            return None
        if missing := kinds.keys() - self.arrays.keys():
            raise SparsifyError(f"'{self.path}' has damaged metadata: no tensor '{min(missing)}'")
        return kinds

    def load_into(self, model: nn.Module, front_end: FrontEnd | None = None) -> None:
        """Gives a network these weights.

        Args:
            model: A network made by `build_model`.
            front_end: What will compute its features; warns if these weights know others.

        Raises:
            SparsifyError: A tensor is missing, unknown or has another shape.
        """
        if self.obstacle:
            raise SparsifyError(self.obstacle)
        expected = model.state_dict()
        arrays = self._fitting(expected, architecture_of(model).name)
        if self.architecture and front_end not in (None, self.front_end):
            logger.warning(
                "'%s' was trained with other features: %s, now %s",
                self.path,
                self.front_end,
                front_end,
            )
        from sparsify.tensors import tensors_of  # noqa: PLC0415

        known = {name: array for name, array in arrays.items() if name in expected}
        model.load_state_dict(tensors_of(known), strict=False)
        for name in self.absent & expected.keys():
            expected[name].zero_()

    def _fitting(self, expected: Shapes, name: str) -> Mapping[str, Array]:
        """The tensors under the names of a network.

        Args:
            expected: The state dict of the network.
            name: Of its architecture.

        Raises:
            SparsifyError: They are not those of the network.
        """
        state, holds, advice = self.arrays, "", ""
        if self.graph and self.architecture is not None:
            expected = {name: each for name, each in expected.items() if name not in self.absent}
            tied = names_in(self.metadata, TIED, self.path, dict)
            again = {name: state[str(first)] for name, first in tied.items() if str(first) in state}
            state = {**again, **state}
        if self.architecture is None:
            state = named_as(toolkits.without_head(state), expected)
        else:
            holds = f" (it holds '{self.architecture.name}')"
        sentences = misfits(state, expected, graph=self.graph)
        if sentences:
            own = toolkits.without_head(self.arrays)
            if self.architecture is None and (found := proposal(own)):
                advice = f"; {found}"
            raise SparsifyError(
                f"'{self.path}'{holds} does not fit the architecture '{name}':"
                f" {'; '.join(sentences)}{advice}"
            )
        return state


def weights_table(artifact: Artifact) -> SparsityTable:
    """The layer-wise sparsity of a file.

    For our artifacts: exactly the trainable parameters of the network, which is not built. For
    other files: the float tensors that are not batch-norm statistics, see `table_from_arrays`.

    Raises:
        SparsifyError: The tensors do not fit the architecture.
    """
    if artifact.table is not None:
        return artifact.table
    kinds = artifact.kinds()
    if kinds is not None:
        return table_of(kinds, artifact.arrays)
    table = table_from_arrays(artifact.arrays, artifact.operators)
    if not table.parameters:
        raise SparsifyError(f"'{artifact.path}' holds no float weights that could be counted")
    return table
