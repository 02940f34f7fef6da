"""The state of a parameter: as a step sees it, and as it comes back from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparsify.optim.sharding import shard_like


class Slot(NamedTuple):
    """A parameter and its state: the tensors as far as this process holds them, of one shape.

    Attributes:
        parameter: The parameter as the optimizer knows it.
        state: Its state in the optimizer.
        weight: The parameter's entries.
        dual: The dual variable `v`, or `None` where the weight itself moves.
        mask: Which weights may move, or `None` for all.
        first: Momentum, or Adam's first moment.
        second: Adam's second moment.
        steps: How many steps Adam's moments have seen, 0-dim.
    """

    parameter: Tensor
    state: dict[str, Any]
    weight: Tensor
    dual: Tensor | None
    mask: Tensor | None
    first: Tensor | None
    second: Tensor | None
    steps: Tensor | None


def precise(tensor: Tensor) -> Tensor:
    """In float32 at least: times a learning rate, a half-precision number could vanish."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def restore(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Mends what `Optimizer.load_state_dict` has lost of the state of parameters.

    Args:
        optimizer: It has loaded the state.
        saved: The state dict that it has loaded.
    """
    # Distributed checkpoints have names in place of indices.
    keys = [key for group in saved["param_groups"] for key in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, parameter in zip(keys, parameters, strict=True):
        for name, value in saved["state"].get(key, {}).items():
            optimizer.state[parameter][name] = _restored(name, value, parameter)


def _restored(name: str, saved: Tensor, parameter: Tensor) -> Tensor:
    if name == "step":  # which torch would share with the state dict
        return saved.clone()
    # Torch has cast it to the type of its parameter, which would round what is more precise than
    # bfloat16 weights.
    value = saved.to(parameter.device, copy=True)
    if value.is_floating_point():
        value = value.to(torch.promote_types(parameter.dtype, torch.float32))
    return shard_like(parameter, value)
