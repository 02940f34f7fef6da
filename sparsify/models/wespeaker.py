"""WeSpeaker's checkpoints: `config.yaml` beside `avg_model.pt`, or above it and `models/`.

The sizes of the network are read off the tensors, the rest off the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsify.arrays import Array
from sparsify.errors import SparsifyError
from sparsify.models import recognition
from sparsify.models.foreign import (
    ForeignModel,
    UnsupportedModelError,
    read_yaml,
    refuse_other_settings,
)
from sparsify.models.names import model_names
from sparsify.models.registry import Architecture
from sparsify.models.toolkits import TOOLKITS
from sparsify.recipe.sections import FrontEnd
from sparsify.recipe.validation import shown, validate

_CONFIG = TOOLKITS["WeSpeaker"][1]
_MODELS = ("avg_model.pt", "final_model.pt")
_HEAD = "projection."
_REDIMNETS = tuple(f"ReDimNet2B{i}" for i in range(7))
_RESNET_POOLING = {"TSTP": "statistics", "ASTP": "attentive"}


def model_file(folder: Path) -> Path | None:
    """The model file of a WeSpeaker folder, `None` if it is none.

    That is `avg_model.pt`, or where there is none the model of the last epoch, `final_model.pt`.

    Raises:
        SparsifyError: The folder has WeSpeaker's configuration but no such model.
    """
    if _config(folder / _CONFIG) is None:
        return None
    for name in _MODELS:
        for file in (folder / name, folder / "models" / name):
            if file.is_file():
                return file
    raise SparsifyError(
        f"'{folder}' has a {_CONFIG} of WeSpeaker, but no {_MODELS[0]}: name the model file, such"
        " as models/model_150.pt"
    )


def interpret(file: Path, tensors: Mapping[str, Array]) -> ForeignModel | None:
    """What a state dict with WeSpeaker's configuration beside it holds; `None` without one.

    Raises:
        UnsupportedModelError: It cannot be represented here; says why.
        SparsifyError: The configuration cannot be read.
    """
    folders = [file.parent, *([file.parent.parent] if file.parent.name == "models" else [])]
    for config_file in (folder / _CONFIG for folder in folders):
        config = _config(config_file)
        if config is not None:
            return _interpret(file, config_file, config, tensors)
    return None


def without_head(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """A state dict without the classifier of the training speakers."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_HEAD)}


def _config(file: Path) -> dict[str, Any] | None:
    """WeSpeaker's configuration, `None` where the file is missing or somebody else's."""
    content = read_yaml(file)
    known = isinstance(content.get("model"), str) and isinstance(content.get("model_args"), dict)
    return content if known else None


def _interpret(
    file: Path, config_file: Path, config: dict[str, Any], tensors: Mapping[str, Array]
) -> ForeignModel:
    name, arguments = config["model"], config["model_args"]
    front_end = _front_end(config_file, config)
    state = without_head(tensors)
    try:
        if name.startswith("ECAPA_TDNN"):
            architecture = _ecapa(arguments, front_end, state)
        elif name.lower() in model_names() and name.startswith("ResNet"):
            architecture = _resnet(name, arguments, front_end, state)
        elif name == "CAMPPlus":
            architecture = _campplus(arguments, front_end, state)
        elif name in _REDIMNETS:
            architecture = _redimnet2(arguments, front_end, state)
        else:
            raise UnsupportedModelError(
                f"'{config_file}' describes a {name}, which sparsify does not have: of"
                f" WeSpeaker's models ECAPA_TDNN, ResNet, CAMPPlus and {', '.join(_REDIMNETS)} load"
            )
    except LookupError as error:
        raise UnsupportedModelError(
            f"'{file}' is no {name}, as '{config_file}' says: it has no tensor {error}"
        ) from error
    except ValueError as error:
        raise UnsupportedModelError(
            f"'{config_file}' describes a {name} with {error}, which sparsify does not have"
        ) from error
    return ForeignModel(architecture, front_end, state)


def _ecapa(
    arguments: Mapping[str, Any], front_end: FrontEnd, state: Mapping[str, Array]
) -> Architecture:
    _check_arguments(arguments, "ASTP")
    architecture = recognition.ecapa_tdnn(state)
    bins = architecture.options["feature_dim"]
    if bins != front_end.num_mel_bins:
        raise ValueError(f"{bins} inputs but {front_end.num_mel_bins} filterbank bins")
    return architecture


def _resnet(
    name: str, arguments: Mapping[str, Any], front_end: FrontEnd, state: Mapping[str, Array]
) -> Architecture:
    pooling = arguments.get("pooling_func", "TSTP")
    if not isinstance(pooling, str) or pooling not in _RESNET_POOLING:
        raise ValueError(f"pooling {shown(pooling)}")
    if arguments.get("two_emb_layer"):
        raise ValueError("two embedding layers (two_emb_layer)")
    own = {"feature_dim": front_end.num_mel_bins, "pooling": _RESNET_POOLING[pooling]}
    return Architecture(name.lower(), {**recognition.resnet(state).options, **own})


def _campplus(
    arguments: Mapping[str, Any], front_end: FrontEnd, state: Mapping[str, Array]
) -> Architecture:
    _check_arguments(arguments, "TSTP")
    options = {"feature_dim": front_end.num_mel_bins}
    return Architecture("campplus", {**recognition.campplus(state).options, **options})


def _redimnet2(
    arguments: Mapping[str, Any], front_end: FrontEnd, state: Mapping[str, Array]
) -> Architecture:
    _check_arguments(arguments, "ASTP")
    options = {"feature_dim": front_end.num_mel_bins}
    return Architecture("redimnet2-b0", {**recognition.redimnet2(state).options, **options})


def _check_arguments(arguments: Mapping[str, Any], pooling: str) -> None:
    """Refuses another pooling than the only one that an architecture has here, and `emb_bn`."""
    given = arguments.get("pooling_func", pooling)
    if given != pooling:
        raise ValueError(f"pooling {shown(given)}")
    if arguments.get("emb_bn"):
        raise ValueError("a batch norm after the embedding (emb_bn)")


def _front_end(file: Path, config: Mapping[str, Any]) -> FrontEnd:
    data = _section(config, "dataset_args")
    if data.get("frontend") == "tfmel":
        return _tfmel(file, data)
    fbank, cmvn = _section(data, "fbank_args"), _section(data, "cmvn_args")
    computed = {
        "frontend": (data.get("frontend", "fbank"), "fbank"),
        "mfcc_args": (data.get("mfcc_args"), None),
        "frame_length": (fbank.get("frame_length", 25), 25),
        "frame_shift": (fbank.get("frame_shift", 10), 10),
        "cmvn": (data.get("cmvn", True), True),
        "norm_mean": (cmvn.get("norm_mean", True), True),
        "norm_var": (cmvn.get("norm_var", False), False),
    }
    refuse_other_settings(file, computed)
    settings = {
        "preset": "wespeaker",
        "sample_rate": data.get("resample_rate", 16000),
        "num_mel_bins": fbank.get("num_mel_bins", config["model_args"].get("feat_dim", 80)),
    }
    return validate(FrontEnd, settings, f"dataset_args of '{file}'")


def _tfmel(file: Path, data: Mapping[str, Any]) -> FrontEnd:
    """The front end of ReDimNet2, of which WeSpeaker's defaults but for the level are computed."""
    mel = _section(data, "tfmel_args")
    computed = {
        "win_length": (mel.get("win_length", 400), 400),
        "hop_length": (mel.get("hop_length", 160), 160),
        "n_fft": (mel.get("n_fft", 512), 512),
        "f_min": (mel.get("f_min", 20), 20),
        "f_max": (mel.get("f_max", 7600), 7600),
        "do_preemph": (mel.get("do_preemph", True), True),
        "norm_signal": (mel.get("norm_signal", False), True),
        "resample_rate": (data.get("resample_rate", 16000), 16000),
    }
    refuse_other_settings(file, computed)
    settings = {"preset": "tfmel", "num_mel_bins": mel.get("n_mels", 80)}
    return validate(FrontEnd, settings, f"dataset_args of '{file}'")


def _section(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    section = content.get(key)
    return section if isinstance(section, dict) else {}
