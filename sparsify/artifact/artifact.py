"""A trained model on disk: weights, architecture, front end, recipe and provenance.

A `.safetensors` artifact has string metadata: `format_version`, `framework` (`sparsify`),
`architecture` and `front_end` (JSON), `recipe` (YAML, when known), `sparsity` (prunable),
`global_sparsity`, `layout`, `source_digest`, the seal (see `sparsify.artifact.seals`) and, after a
training, `embedding_mean` (JSON: mean embedding of the training utterances, float32). Of a network
that is not ours `parameter_kinds` tells what its parameters are (JSON: type and prunability by
name), so that reading the file takes no foreign code. An ONNX export carries the same keys with the
prefix `sparsify.`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from sparsify.artifact.bitmask import pack
from sparsify.artifact.seals import COUNTER, damaged, seal, source_digest, tensor_entries
from sparsify.artifact.weights import Weights, read_weights
from sparsify.documents import parse_json, parse_yaml
from sparsify.errors import SparsifyError
from sparsify.files import replacing
from sparsify.models import speechbrain, wespeaker
from sparsify.models.foreign import UnsupportedModelError
from sparsify.models.registry import Architecture, architecture_of, require_trust
from sparsify.recipe.recipe import Recipe, parse_recipe
from sparsify.recipe.sections import FrontEnd
from sparsify.recipe.validation import validate
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.table import (
    Kind,
    SparsityTable,
    parameter_kinds,
    sparsity_table,
    table_from_tensors,
    table_of,
)

logger = logging.getLogger(__name__)

Layout = Literal["dense", "bitmask"]

FORMAT_VERSION = 1
MODEL_FILE = "model.safetensors"
_MEAN = "embedding_mean"
_KINDS = "parameter_kinds"


@dataclass(frozen=True)
class Artifact:
    """The content of a model file.

    Attributes:
        path: The file (in a run directory, its `model.safetensors`).
        format: `safetensors`, `onnx` or `pt`.
        state: Dense tensors by name, on the CPU.
        architecture: How to rebuild the network; `None` where that is not known.
        front_end: The features the network expects; the default where they are not known.
        metadata: All strings the file carries.
        operators: In ONNX files, the operator that consumes each tensor.
        obstacle: Why another toolkit's network, though known, cannot be rebuilt.
        trusted: Whether the file may name code that building the network imports and runs.
    """

    path: Path
    format: str
    state: dict[str, Tensor]
    architecture: Architecture | None
    front_end: FrontEnd
    metadata: dict[str, str]
    operators: Mapping[str, str] = field(default_factory=dict)
    obstacle: str | None = None
    trusted: bool = False

    @cached_property
    def recipe(self) -> Recipe | None:
        """The recipe that made the model, if the file knows it."""
        text = self.metadata.get("recipe")
        if text is None or self.architecture is None:
            return None
        return parse_recipe(parse_yaml(text, f"the recipe in '{self.path}'"), str(self.path))

    @property
    def layout(self) -> str:
        """How the file stores its tensors, `dense` or `bitmask`."""
        return self.metadata.get("layout", "dense") if self.architecture else "dense"

    @property
    def measured(self) -> dict[str, str]:
        """Metadata that was measured in training, which neither weights nor recipe can tell."""
        return {key: self.metadata[key] for key in (_MEAN,) if key in self.metadata}

    @property
    def ignore(self) -> tuple[str, ...]:
        """Patterns of parameter names that were protected from pruning."""
        return self.recipe.model.ignore if self.recipe else ()

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
        if self.architecture is None:
            raise SparsifyError(
                self.obstacle
                or f"'{self.path}' does not say which network it is: build that with"
                " sparsify.build_model, load the state dict and use sparsify.save_model"
            )
        self.check_trust()
        if not self.architecture.is_code:
            self._check_fit(self.architecture.outline(), self.architecture.name)
        model = self.architecture.build()
        self.load_into(model)
        return model.eval()

    def kinds(self) -> dict[str, Kind] | None:
        """What each parameter is, by name, without building anything; `None` if that is not known.

        Raises:
            SparsifyError: The tensors do not fit the architecture.
        """
        if self.architecture is None:
            return None
        if not self.architecture.is_code:
            network = self.architecture.outline()
            self._check_fit(network, self.architecture.name)
            return parameter_kinds(network, self.ignore)
        text = self.metadata.get(_KINDS)
        if text is None:
            return None
        listed = parse_json(text, f"{_KINDS} of '{self.path}'")
        try:
            kinds = {
                str(name): Kind(str(type_), bool(may)) for name, (type_, may) in listed.items()
            }
        except (AttributeError, TypeError, ValueError) as error:
            raise SparsifyError(f"'{self.path}' has damaged metadata: {error!r}") from error
        if missing := kinds.keys() - self.state.keys():
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
        self._check_fit(model, architecture_of(model).name)
        if self.architecture and front_end not in (None, self.front_end):
            logger.warning(
                "'%s' was trained with other features: %s, now %s",
                self.path,
                self.front_end,
                front_end,
            )
        known = model.state_dict().keys() & self.state.keys()
        model.load_state_dict({name: self.state[name] for name in known}, strict=False)

    def _check_fit(self, model: nn.Module, name: str) -> None:
        """Refuses tensors that are not those of a network, whose architecture has a name."""
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        found = {name: tensor.shape for name, tensor in self.state.items() if name in expected}
        # ONNX has no use for batch norm's counter, and neither has a network in eval mode.
        wrong = [
            name
            for name, shape in expected.items()
            if found.get(name) != shape and not (name not in found and name.endswith(COUNTER))
        ]
        # An ONNX graph has constants beside the parameters.
        state = self.state if self.architecture else wespeaker.without_head(self.state)
        extra = [] if self.format == "onnx" else sorted(state.keys() - expected.keys())
        if wrong or extra:
            holds = f" (it holds '{self.architecture.name}')" if self.architecture else ""
            raise SparsifyError(
                f"'{self.path}'{holds} does not fit the architecture '{name}': tensor"
                f" '{(wrong + extra)[0]}' is missing, unknown or has another shape"
            )


def load_artifact(path: str | Path, *, trust: bool = False) -> Artifact:
    """Reads a run directory, `.safetensors` (either layout), `.onnx` or `.pt` state dict.

    Also WeSpeaker's and SpeechBrain's models, see `sparsify.models.wespeaker` and `.speechbrain`.
    A file of ours that another tool has changed is read as one that is not ours.

    Args:
        path: The file or run directory.
        trust: Whether `build` may import and run code that the file names as its network.

    Raises:
        SparsifyError: The file is missing, damaged, of another kind or of a newer format version.
    """
    file = Path(path)
    if file.is_dir():
        file = _model_file(file)
    weights = read_weights(file)
    if weights.metadata.get("framework") != "sparsify" and weights.format != "onnx":
        return _foreign_artifact(file, weights)
    architecture, front_end = _parse(weights.metadata, file)
    artifact = Artifact(
        file,
        weights.format,
        weights.tensors,
        architecture,
        front_end,
        weights.metadata,
        weights.operators,
        trusted=trust,
    )
    intact = _is_intact_unsealed(artifact) if weights.intact is None else weights.intact
    if intact or architecture is None:
        return artifact
    logger.warning(
        "'%s' has been changed by another tool since sparsify wrote it: read like a file that is"
        " not ours",
        file,
    )
    return replace(artifact, architecture=None)


def load_model(path: str | Path, *, trust: bool = False) -> nn.Module:
    """A ready network from anything that `load_artifact` reads, on the CPU, in eval mode.

    Args:
        path: The file or run directory.
        trust: Whether code that the file names as its network may be imported and run.

    Raises:
        SparsifyError: The file cannot be read, does not say which network it is, or names code and
            is not trusted.
    """
    return load_artifact(path, trust=trust).build()


def save_model(
    model: nn.Module,
    path: str | Path,
    recipe: Recipe | None = None,
    *,
    layout: Layout = "dense",
    embedding_mean: Tensor | None = None,
) -> None:
    """Writes a network as a `.safetensors` artifact; the file appears complete or not at all.

    Args:
        model: A network made by `build_model`, without its training head.
        path: The `.safetensors` file; replaced if it exists.
        recipe: What made the model; its front end travels with the artifact.
        layout: `dense` (exact zeros, loads in anything) or `bitmask` (zeros take one bit).
        embedding_mean: Mean embedding `(D,)` of the training utterances, for scoring to subtract.

    Raises:
        SparsifyError: The model cannot be rebuilt from a file, or the file cannot be written.
    """
    front_end = recipe.front_end if recipe else FrontEnd()
    extra = {}
    if embedding_mean is not None:
        # The shortest decimals that read back as the same float32.
        values = ", ".join(str(value) for value in embedding_mean.float().cpu().numpy())
        extra[_MEAN] = f"[{values}]"
    write_artifact(model, Path(path), front_end, recipe, layout, extra)


def write_artifact(
    model: nn.Module,
    path: Path,
    front_end: FrontEnd,
    recipe: Recipe | None,
    layout: Layout,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """`save_model` for a front end that no recipe describes, with further metadata.

    Raises:
        SparsifyError: The model cannot be rebuilt from a file, or the file cannot be written.
    """
    state = canonical_state(model)
    metadata = provenance(model, state, front_end, recipe) | {"layout": layout, **extra}
    _write(path, state, prunable_parameters(model), metadata)


def copy_artifact(artifact: Artifact, path: Path, layout: Layout) -> None:
    """Writes a `.safetensors` artifact in a layout, without building its network.

    Raises:
        SparsifyError: The tensors do not fit the architecture, or the file cannot be written.
    """
    state = {name: _canonical(tensor) for name, tensor in artifact.state.items()}
    prunable = [layer.name for layer in weights_table(artifact).prunable]
    _write(path, state, prunable, artifact.metadata | {"layout": layout})


def _write(
    path: Path, state: Mapping[str, Tensor], prunable: Iterable[str], metadata: dict[str, str]
) -> None:
    if path.suffix != ".safetensors":
        raise SparsifyError(f"cannot write '{path}': the name must end in .safetensors")
    metadata = metadata | seal(tensor_entries(metadata, state))
    stored = dict(state)
    if metadata["layout"] == "bitmask":
        for name in prunable:
            if bool((stored[name] == 0).any()):
                packed = pack(stored.pop(name))
                stored |= {f"{name}.{part}": tensor for part, tensor in vars(packed).items()}
    with replacing(path) as temporary:
        temporary.write_bytes(_reproducible(safetensors.torch.save(stored, metadata)))


def provenance(
    model: nn.Module, state: Mapping[str, Tensor], front_end: FrontEnd, recipe: Recipe | None
) -> dict[str, str]:
    """The metadata that makes a file an artifact, whatever its format.

    Args:
        model: The network.
        state: Its `canonical_state`.
        front_end: The features that it expects.
        recipe: What made it, if that is known.

    Raises:
        SparsifyError: The model does not know its architecture, or that is not JSON.
    """
    architecture = architecture_of(model)
    ignore = recipe.model.ignore if recipe else ()
    table = sparsity_table(model, ignore)
    try:
        description = json.dumps(asdict(architecture))
    except TypeError as error:
        raise SparsifyError(
            f"the options of model '{architecture.name}' must be JSON values: {error}"
        ) from error
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "framework": "sparsify",
        "architecture": description,
        "front_end": front_end.model_dump_json(),
        "sparsity": repr(table.sparsity),
        "global_sparsity": repr(table.global_sparsity),
        "source_digest": source_digest(state),
    }
    if architecture.is_code:
        metadata[_KINDS] = json.dumps(parameter_kinds(model, ignore))
    return metadata | ({"recipe": recipe.to_yaml()} if recipe else {})


def canonical_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as artifacts store it: on the CPU, contiguous, `+0.0` for every `-0.0`."""
    return {name: _canonical(tensor) for name, tensor in model.state_dict().items()}


def weights_table(artifact: Artifact) -> SparsityTable:
    """The layer-wise sparsity of a file.

    For our artifacts: exactly the trainable parameters of the network, which is not built. For
    other files: the float tensors that are not batch-norm statistics, prunable by
    `prunable_tensor`.

    Raises:
        SparsifyError: The tensors do not fit the architecture.
    """
    kinds = artifact.kinds()
    if kinds is not None:
        return table_of(kinds, artifact.state)
    table = table_from_tensors(artifact.state, artifact.operators)
    if not table.parameters:
        raise SparsifyError(f"'{artifact.path}' holds no float weights that could be counted")
    return table


def _reproducible(content: bytes) -> bytes:
    """The same file with its metadata sorted; safetensors writes them in random order."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of eight
    return len(text).to_bytes(8, "little") + text + content[start:]


def _canonical(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_floating_point():
        return torch.where(tensor == 0, torch.zeros_like(tensor), tensor)
    return tensor.clone()


def _model_file(folder: Path) -> Path:
    own = folder / MODEL_FILE
    file = own if own.is_file() else speechbrain.model_file(folder) or wespeaker.model_file(folder)
    if file is None:
        raise SparsifyError(
            f"'{folder}' is not a run directory: it has no {MODEL_FILE} (nor is it a model folder"
            " of WeSpeaker or SpeechBrain)"
        )
    return file


def _foreign_artifact(file: Path, weights: Weights) -> Artifact:
    unknown = Artifact(file, weights.format, weights.tensors, None, FrontEnd(), weights.metadata)
    try:
        found = speechbrain.interpret(file, weights.tensors) or wespeaker.interpret(
            file, weights.tensors
        )
    except UnsupportedModelError as error:
        return replace(unknown, obstacle=str(error))
    if found is None:
        return unknown
    return replace(
        unknown, state=found.state, architecture=found.architecture, front_end=found.front_end
    )


def _is_intact_unsealed(artifact: Artifact) -> bool:
    """Whether a file of ours without a seal, from an earlier version, is as it was written.

    Raises:
        SparsifyError: It is damaged.
    """
    architecture, digest = artifact.architecture, artifact.metadata.get("source_digest")
    if architecture is None or architecture.is_code or digest is None:
        return True
    expected = architecture.outline().state_dict()
    state = {name: tensor for name, tensor in artifact.state.items() if name in expected}
    if source_digest(state) == digest:
        return True
    if all(
        name.endswith(COUNTER)
        or (name in state and (t.shape, t.dtype) == (state[name].shape, state[name].dtype))
        for name, t in expected.items()
    ):
        raise damaged(artifact.path)
    return False


def _parse(metadata: Mapping[str, str], path: Path) -> tuple[Architecture | None, FrontEnd]:
    if metadata.get("framework") != "sparsify":
        return None, FrontEnd()
    try:
        version = int(metadata["format_version"])
        architecture = Architecture(**parse_json(metadata["architecture"], "its architecture"))
        if not isinstance(architecture.name, str) or not isinstance(architecture.options, dict):
            raise TypeError("architecture must have a name and options")
        front_end = parse_json(metadata["front_end"], "its front end")
    except (KeyError, TypeError, ValueError, SparsifyError) as error:
        raise SparsifyError(f"'{path}' has damaged metadata: {error!r}") from error
    if version > FORMAT_VERSION:
        raise SparsifyError(f"'{path}' has format version {version}: update sparsify to read it")
    return architecture, validate(FrontEnd, front_end, f"front end of '{path}'")
