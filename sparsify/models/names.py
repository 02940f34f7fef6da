"""The architectures that ship, by name; importing this module takes no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sparsify.errors import SparsifyError, did_you_mean


@dataclass(frozen=True)
class Shipped:
    """An architecture that ships.

    Attributes:
        home: What makes it, as `module:factory`.
        options: Its keyword arguments where they are not the factory's defaults.
    """

    home: str
    options: Mapping[str, Any] = field(default_factory=dict)


def _resnet(*blocks: int, **options: Any) -> Shipped:
    return Shipped("sparsify.models.resnet:ResNet", {"blocks": blocks, **options})


def _redimnet2(**options: Any) -> Shipped:
    return Shipped("sparsify.models.redimnet2:ReDimNet2", options)


def _ecapa(**options: Any) -> Shipped:
    return Shipped("sparsify.models.ecapa_tdnn:ECAPATDNN", options)


_WIDER = (4, 3, 2, 1, 1, 1)

SHIPPED = {
    "ecapa-tdnn": _ecapa(),
    "ecapa-tdnn-512": _ecapa(channels=512),
    "ecapa-tdnn-1024": _ecapa(channels=1024),
    "campplus": Shipped("sparsify.models.campplus:CAMPPlus"),
    "redimnet2-b0": _redimnet2(),
    "redimnet2-b1": _redimnet2(channels=16, reductions=(32, 32, 32, 32, 16, 16)),
    "redimnet2-b2": _redimnet2(
        channels=20, reductions=(40, 30, 30, 20, 20, 10), bins=(1, 2, 1, 3, 1, 2)
    ),
    "redimnet2-b3": _redimnet2(channels=24),
    "redimnet2-b4": _redimnet2(
        channels=32, out_channels=None, expansions=_WIDER, reductions=(24,) * 6
    ),
    "redimnet2-b5": _redimnet2(
        channels=48, out_channels=256, expansions=_WIDER, reductions=(48, 48, 48, 48, 32, 32)
    ),
    "redimnet2-b6": _redimnet2(
        channels=64,
        out_channels=224,
        image_head=True,
        reductions=(64, 64, 48, 48, 32, 24),
        blocks=(3, 4, 5, 5, 4, 3),
        expansions=(3, 2, 2, 1, 0.75, 0.5),
    ),
    "resnet18": _resnet(2, 2, 2, 2),
    "resnet34": _resnet(3, 4, 6, 3),
    "resnet50": _resnet(3, 4, 6, 3, bottleneck=True),
    "resnet101": _resnet(3, 4, 23, 3, bottleneck=True),
    "resnet152": _resnet(3, 8, 36, 3, bottleneck=True),
    "resnet221": _resnet(6, 16, 48, 3, bottleneck=True),
    "resnet293": _resnet(10, 20, 64, 3, bottleneck=True),
}


Widths: TypeAlias = Mapping[str, Any]
"""What differs from the full network where channels were taken out of it: shapes by the names of
tensors, and by the names of operands of a `Sum`, such as `layer2.sum.first`, text of a 1 for each
channel of the sum that it has and a 0 for each that it lacks."""
COUNTER = "num_batches_tracked"
"""Of a batch norm: nothing in eval mode depends on it, and graphs lack it."""


def model_names() -> list[str]:
    """The architectures that ship, sorted."""
    return sorted(SHIPPED)


def names_code(name: str) -> bool:
    """Whether the name of an architecture is `module:factory`."""
    return ":" in name


def check_model(name: str) -> None:
    """Refuses a name that no architecture has; whether code exists is found when it is imported.

    Raises:
        SparsifyError: It is neither shipped nor `module:factory`.
    """
    if not names_code(name) and name not in SHIPPED:
        raise SparsifyError(f"unknown model '{name}': {did_you_mean(name, model_names())}")
