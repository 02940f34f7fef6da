"""A trained model on disk: weights, architecture, front end, recipe and provenance.

A `.safetensors` artifact has string metadata: `format_version`, `framework` (`sparsify`),
`architecture` and `front_end` (JSON), `recipe` (YAML, when known), `sparsity` (prunable),
`global_sparsity`, `layout`, `source_digest` and, after a training, `embedding_mean` (JSON: mean
embedding of the training utterances, float32). An ONNX export carries the same keys with the
prefix `sparsify.`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from sparsify.bitmask import pack
from sparsify.errors import SparsifyError
from sparsify.files import replacing
from sparsify.models import speechbrain, wespeaker
from sparsify.models.foreign import UnsupportedModelError
from sparsify.models.registry import Architecture, architecture_of, build_model
from sparsify.recipe import Recipe, parse_recipe
from sparsify.recipe_sections import FrontEnd
from sparsify.section import validate
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.table import SparsityTable, sparsity_table, table_from_tensors
from sparsify.weights import Weights, read_weights

logger = logging.getLogger(__name__)

Layout = Literal["dense", "bitmask"]

FORMAT_VERSION = 1
MODEL_FILE = "model.safetensors"
_COUNTER = "num_batches_tracked"
_MEAN = "embedding_mean"


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
    """

    path: Path
    format: str
    state: dict[str, Tensor]
    architecture: Architecture | None
    front_end: FrontEnd
    metadata: dict[str, str]
    operators: Mapping[str, str] = field(default_factory=dict)
    obstacle: str | None = None

    @cached_property
    def recipe(self) -> Recipe | None:
        """The recipe that made the model, if the file knows it."""
        text = self.metadata.get("recipe")
        if text is None or self.architecture is None:
            return None
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SparsifyError(f"the recipe in '{self.path}' is not valid YAML") from error
        return parse_recipe(content, str(self.path))

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

    def build(self) -> nn.Module:
        """The network with these weights, on the CPU, in eval mode.

        Raises:
            SparsifyError: The file does not say which network it is, or its tensors do not fit.
        """
        if self.architecture is None:
            raise SparsifyError(
                self.obstacle
                or f"'{self.path}' does not say which network it is: build that with"
                " sparsify.build_model, load the state dict and use sparsify.save_model"
            )
        model = build_model(self.architecture.name, **self.architecture.options)
        self.load_into(model)
        return model.eval()

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
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        found = {name: tensor.shape for name, tensor in self.state.items() if name in expected}
        # ONNX has no use for batch norm's counter, and neither has a network in eval mode.
        wrong = [
            name
            for name, shape in expected.items()
            if found.get(name) != shape and not (name not in found and name.endswith(_COUNTER))
        ]
        # An ONNX graph has constants beside the parameters.
        state = self.state if self.architecture else wespeaker.without_head(self.state)
        extra = [] if self.format == "onnx" else sorted(state.keys() - expected.keys())
        if wrong or extra:
            holds = f" (it holds '{self.architecture.name}')" if self.architecture else ""
            raise SparsifyError(
                f"'{self.path}'{holds} does not fit the architecture"
                f" '{architecture_of(model).name}': tensor '{(wrong + extra)[0]}' is missing,"
                " unknown or has another shape"
            )
        if self.architecture and front_end not in (None, self.front_end):
            logger.warning(
                "'%s' was trained with other features: %s, now %s",
                self.path,
                self.front_end,
                front_end,
            )
        model.load_state_dict({name: self.state[name] for name in found}, strict=False)


def load_artifact(path: str | Path) -> Artifact:
    """Reads a run directory, `.safetensors` (either layout), `.onnx` or `.pt` state dict.

    Also WeSpeaker's and SpeechBrain's models, see `sparsify.models.wespeaker` and `.speechbrain`.

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
    return Artifact(
        file,
        weights.format,
        weights.tensors,
        architecture,
        front_end,
        weights.metadata,
        weights.operators,
    )


def load_model(path: str | Path) -> nn.Module:
    """A ready network from anything that `load_artifact` reads, on the CPU, in eval mode.

    Raises:
        SparsifyError: The file cannot be read or does not say which network it is.
    """
    return load_artifact(path).build()


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
    if path.suffix != ".safetensors":
        raise SparsifyError(f"cannot write '{path}': the name must end in .safetensors")
    metadata = provenance(model, front_end, recipe) | {"layout": layout, **extra}
    stored = canonical_state(model)
    if layout == "bitmask":
        for name in prunable_parameters(model):
            if bool((stored[name] == 0).any()):
                packed = pack(stored.pop(name))
                stored |= {f"{name}.{part}": tensor for part, tensor in vars(packed).items()}
    with replacing(path) as temporary:
        temporary.write_bytes(_reproducible(safetensors.torch.save(stored, metadata)))


def provenance(model: nn.Module, front_end: FrontEnd, recipe: Recipe | None) -> dict[str, str]:
    """The metadata that makes a file an artifact, whatever its format.

    Raises:
        SparsifyError: The model does not know its architecture, or that is not JSON.
    """
    architecture = architecture_of(model)
    table = sparsity_table(model, recipe.model.ignore if recipe else ())
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
        "source_digest": source_digest(canonical_state(model)),
    }
    return metadata | ({"recipe": recipe.to_yaml()} if recipe else {})


def canonical_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as artifacts store it: on the CPU, contiguous, `+0.0` for every `-0.0`."""
    return {name: _canonical(tensor) for name, tensor in model.state_dict().items()}


def source_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state: traces an export to its model, in whatever format and layout.

    Covers names, types, shapes and values in order of the names. Batch norm's counters, which have
    no part in an embedding and do not survive ONNX, are left out.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.endswith(_COUNTER):
            continue
        tensor = state[name].contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_table(artifact: Artifact) -> SparsityTable:
    """The layer-wise sparsity of a file.

    For our artifacts: exactly the trainable parameters of the network. For other files: the float
    tensors that are not batch-norm statistics, prunable by `prunable_tensor`.

    Raises:
        SparsifyError: The tensors do not fit the architecture.
    """
    if artifact.architecture is None:
        table = table_from_tensors(artifact.state, artifact.operators)
        if not table.parameters:
            raise SparsifyError(f"'{artifact.path}' holds no float weights that could be counted")
        return table
    return sparsity_table(artifact.build(), artifact.ignore)


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


def _parse(metadata: Mapping[str, str], path: Path) -> tuple[Architecture | None, FrontEnd]:
    if metadata.get("framework") != "sparsify":
        return None, FrontEnd()
    try:
        version = int(metadata["format_version"])
        architecture = Architecture(**json.loads(metadata["architecture"]))
        if not isinstance(architecture.name, str) or not isinstance(architecture.options, dict):
            raise TypeError("architecture must have a name and options")
        front_end = json.loads(metadata["front_end"])
    except (KeyError, TypeError, ValueError) as error:
        raise SparsifyError(f"'{path}' has damaged metadata: {error!r}") from error
    if version > FORMAT_VERSION:
        raise SparsifyError(f"'{path}' has format version {version}: update sparsify to read it")
    return architecture, validate(FrontEnd, front_end, f"front end of '{path}'")
