"""SpeechBrain's ECAPA-TDNN: `embedding_model.ckpt`, with `hyperparams.yaml` mostly beside it.

The sizes of the network are read off the tensors, the rest off the hyperparameters.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsify.arrays import Array
from sparsify.models import recognition
from sparsify.models.foreign import (
    TAG,
    ForeignModel,
    UnsupportedModelError,
    read_yaml,
    refuse_other_settings,
)
from sparsify.models.registry import Architecture
from sparsify.models.toolkits import TOOLKITS
from sparsify.recipe.sections import FrontEnd
from sparsify.recipe.validation import validate

logger = logging.getLogger(__name__)

_MODEL = TOOLKITS["SpeechBrain"][1]
_HYPERPARAMETERS = "hyperparams.yaml"
_SIGNATURE = {"blocks.0.conv.conv.weight", "asp_bn.norm.weight", "fc.conv.weight"}
_RELU = {TAG: "!name:torch.nn.ReLU"}
_DILATIONS = [1, 2, 3, 4, 1]
# Arguments of SpeechBrain's Fbank, with the only values, its defaults, that are computed here.
_FBANK = {
    "deltas": False,
    "context": False,
    "f_min": 0,
    "n_fft": 400,
    "filter_shape": "triangular",
    "param_rand_factor": 0.0,
    "win_length": 25,
    "hop_length": 10,
}


def model_file(folder: Path) -> Path | None:
    """The model file of a SpeechBrain folder, `None` if it is none."""
    file = folder / _MODEL
    return file if file.is_file() else None


def interpret(file: Path, tensors: Mapping[str, Array]) -> ForeignModel | None:
    """What a state dict with SpeechBrain's names holds; `None` if the names are others.

    Raises:
        UnsupportedModelError: It cannot be represented here; says why.
        SparsifyError: The hyperparameters cannot be read.
    """
    if not tensors.keys() >= _SIGNATURE:
        return None
    names = our_names()
    state = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if module not in names:
            raise UnsupportedModelError(
                f"'{file}' is no ECAPA-TDNN as in SpeechBrain's spkrec-ecapa-voxceleb: nothing here"
                f" corresponds to its tensor '{name}'"
            )
        # Convolutions over a single frame, where our network has linear layers.
        linear = kind == "weight" and (module == "fc.conv" or ".se_block." in module)
        linear &= tensor.shape[-1:] == (1,)
        state[f"{names[module]}.{kind}"] = tensor.squeeze(-1) if linear else tensor
    try:
        options = recognition.ecapa_tdnn(state).options
    except LookupError as error:
        raise UnsupportedModelError(
            f"'{file}' is no complete ECAPA-TDNN of SpeechBrain: nothing in it corresponds to"
            f" {error}"
        ) from error
    front_end = _front_end(file.parent / _HYPERPARAMETERS, options["feature_dim"])
    return ForeignModel(Architecture("ecapa-tdnn", options), front_end, state)


def without_head(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The state dict as it is: the classifier is in a file of its own."""
    return dict(tensors)


def our_names() -> dict[str, str]:
    """Our module for each of SpeechBrain's."""
    names = {
        "blocks.0.conv.conv": "layer1.conv",
        "blocks.0.norm.norm": "layer1.bn",
        "mfa.conv.conv": "conv",
        "mfa.norm.norm": "conv_bn",
        "asp.tdnn.conv.conv": "pool.linear1",
        "asp.tdnn.norm.norm": "pool.bn",
        "asp.conv.conv": "pool.linear2",
        "asp_bn.norm": "bn",
        "fc.conv": "linear",
    }
    for block in (1, 2, 3):
        theirs, ours = f"blocks.{block}", f"layer{block + 1}.se_res2block"
        for tdnn, place in (("tdnn1", 0), ("tdnn2", 2)):
            names[f"{theirs}.{tdnn}.conv.conv"] = f"{ours}.{place}.conv"
            names[f"{theirs}.{tdnn}.norm.norm"] = f"{ours}.{place}.bn"
        for group in range(7):
            names[f"{theirs}.res2net_block.blocks.{group}.conv.conv"] = f"{ours}.1.convs.{group}"
            names[f"{theirs}.res2net_block.blocks.{group}.norm.norm"] = f"{ours}.1.bns.{group}"
        names[f"{theirs}.se_block.conv1.conv"] = f"{ours}.3.linear1"
        names[f"{theirs}.se_block.conv2.conv"] = f"{ours}.3.linear2"
    return names


def _front_end(file: Path, bins: int) -> FrontEnd:
    if not file.is_file():
        logger.warning(
            "there is no '%s': the features are assumed to be those of spkrec-ecapa-voxceleb",
            file,
        )
        return FrontEnd(preset="speechbrain", num_mel_bins=bins)
    content = read_yaml(file)
    fbank = _section(content, "compute_features")
    norm = _section(content, "mean_var_norm")
    model = _section(content, "embedding_model")
    rate = fbank.get("sample_rate", 16000)
    nyquist = rate // 2 if isinstance(rate, int) else None
    computed = {
        "compute_features": (_kind(fbank), "Fbank"),
        "n_mels": (fbank.get("n_mels", 40), bins),
        "f_max": (fbank.get("f_max") or nyquist, nyquist),
        "mean_var_norm": (_kind(norm), "InputNormalization"),
        "norm_type": (norm.get("norm_type", "global"), "sentence"),
        "std_norm": (norm.get("std_norm", True), False),
        "embedding_model": (_kind(model), "ECAPA_TDNN"),
        "dilations": (model.get("dilations", _DILATIONS), _DILATIONS),
        "activation": (_kind(model.get("activation", _RELU)), "ReLU"),
    }
    computed |= {k: (fbank.get(k, value), value) for k, value in _FBANK.items()}
    refuse_other_settings(file, computed)
    settings = {"preset": "speechbrain", "sample_rate": rate, "num_mel_bins": bins}
    return validate(FrontEnd, settings, f"'{file}'")


def _section(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A section of SpeechBrain's YAML, its references resolved."""
    section = content.get(key)
    if not isinstance(section, dict):
        return {}
    references = {f"<{name}>": value for name, value in content.items()}
    return {
        name: references.get(value, value) if isinstance(value, str) else value
        for name, value in section.items()
    }


def _kind(section: Any) -> str | None:
    """Name of the class that a section makes, `None` where it is missing."""
    tagged = isinstance(section, dict) and TAG in section
    return str(section[TAG]).rpartition(".")[2] if tagged else None
