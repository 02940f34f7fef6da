"""Which registered architecture a state dict belongs to: sizes are read off its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Protocol, TypeAlias

from sparsify.errors import SparsifyError
from sparsify.models.names import COUNTER
from sparsify.models.outlines import outline_of
from sparsify.models.registry import Architecture


class Shaped(Protocol):
    """A tensor of PyTorch or numpy, or what is known of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""


Shapes: TypeAlias = Mapping[str, Shaped]
"""A state dict, of which values do not count."""

_RES_BLOCKS: dict[tuple[int, ...], str] = {
    (2, 2, 2, 2): "resnet18",
    (3, 4, 6, 3): "resnet34",
    (3, 4, 23, 3): "resnet101",
    (3, 8, 36, 3): "resnet152",
    (6, 16, 48, 3): "resnet221",
    (10, 20, 64, 3): "resnet293",
}
FIRST_LAYERS = (
    "layer1.conv.weight",
    "conv1.weight",
    "head.conv1.weight",
    "backbone.stem.0.weight",
)
"""Of the architectures, by which one is found behind other names."""
_REDUCING = ".red_dim_conv.0.weight"  # of ReDimNet2's 1-D blocks, one for each stage
_BLOCK = ".conv_block.bn1.weight"  # of ReDimNet2's residual blocks


def recognised(state: Shapes) -> Architecture | None:
    """The registered architecture whose names and shapes a state dict has; `None` if there is none.

    Args:
        state: Under our names, which are WeSpeaker's.
    """
    for sizes in (ecapa_tdnn, resnet, campplus, redimnet2):
        try:
            architecture = sizes(state)
            expected = outline_of(architecture).state
        except (LookupError, ValueError, SparsifyError):
            continue
        if _shapes(expected) == _shapes(state):
            return architecture
    return None


def ecapa_tdnn(state: Shapes) -> Architecture:
    """The ECAPA-TDNN of a state dict.

    Raises:
        LookupError: It is no such state dict.
    """
    first, aggregation = state["layer1.conv.weight"].shape, state["conv.weight"].shape[0]
    options: dict[str, Any] = {
        "channels": first[0],
        "feature_dim": first[1],
        "embedding_dim": state["linear.weight"].shape[0],
        "aggregation_channels": aggregation,
        "se_channels": state["layer2.se_res2block.3.linear1.weight"].shape[0],
        "attention_channels": state["pool.linear1.weight"].shape[0],
        "global_context": state["pool.linear1.weight"].shape[1] == 3 * aggregation,
    }
    if "conv_bn.weight" in state:
        options["variant"] = "speechbrain"
    return Architecture("ecapa-tdnn", options)


def resnet(state: Shapes) -> Architecture:
    """The ResNet of a state dict, of 80 bins: their number is nowhere in it but rounded.

    Raises:
        LookupError: It is no such state dict, or of a depth that is not registered.
    """
    blocks = tuple(
        len({name.split(".")[1] for name in state if name.startswith(f"layer{stage}.")})
        for stage in range(1, 5)
    )
    name = _RES_BLOCKS[blocks]
    if name == "resnet34" and "layer1.0.conv3.weight" in state:
        name = "resnet50"
    options = {
        "channels": state["conv1.weight"].shape[0],
        "embedding_dim": state["seg_1.weight"].shape[0],
        "pooling": "attentive" if "pool.linear1.weight" in state else "statistics",
    }
    return Architecture(name, options)


def campplus(state: Shapes) -> Architecture:
    """The CAM++ of a state dict.

    Raises:
        LookupError: It is no such state dict.
    """
    layer = "xvector.block1.tdnnd1."
    first = state["xvector.tdnn.linear.weight"].shape
    head = state["head.conv1.weight"].shape[0]
    options = {
        "channels": first[0],
        "growth_channels": state[f"{layer}cam_layer.linear_local.weight"].shape[0],
        "bottleneck_channels": state[f"{layer}linear1.weight"].shape[0],
        "head_channels": head,
        "feature_dim": 8 * first[1] // head,
        "embedding_dim": state["xvector.dense.linear.weight"].shape[0],
    }
    return Architecture("campplus", options)


def redimnet2(state: Shapes) -> Architecture:
    """The ReDimNet2 of a state dict.

    Raises:
        LookupError: It is no such state dict.
    """
    stem = state["backbone.stem.0.weight"].shape[0]
    reduced = [tensor.shape for name, tensor in state.items() if name.endswith(_REDUCING)]
    entries = [state[f"backbone.stage{i}.2.weight"].shape for i in range(len(reduced))]
    bins = [entry[2] for entry in entries]
    channels = [stem * prod(bins[: i + 1]) for i in range(len(bins))]
    head = state.get("backbone.head.weight")
    options = {
        "channels": stem,
        "feature_dim": reduced[0][1] // stem,
        "embedding_dim": state["linear.weight"].shape[0],
        "out_channels": None if head is None else head.shape[0],
        "image_head": head is not None and len(head.shape) == 4,
        "attention_channels": state["pool.linear1.weight"].shape[0],
        "reductions": [volume // hidden for hidden, volume, _ in reduced],
        "bins": bins,
        "blocks": [
            sum(name.startswith(f"backbone.stage{i}.") and name.endswith(_BLOCK) for name in state)
            for i in range(len(bins))
        ],
        "expansions": [
            inside[0] / outside for inside, outside in zip(entries, channels, strict=True)
        ],
    }
    return Architecture("redimnet2-b0", options)


def _shapes(state: Shapes) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in state.items() if not name.endswith(COUNTER)}
