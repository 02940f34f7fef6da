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


def check_state(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Checks that a state dict fits an optimizer, before anything of it is loaded.

    Compiled code reads the state of a weight as far as the weight is long.

    Raises:
        ValueError: It has other groups, or a tensor of another shape or type than its weight's.
    """
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if [len(group["params"]) for group in saved["param_groups"]] != sizes:
        raise ValueError(f"the state is of other groups: this optimizer has {sizes} parameters")
    keys = [key for group in saved["param_groups"] for key in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, parameter in zip(keys, parameters, strict=True):
        for name, value in saved["state"].get(key, {}).items():
            shape = torch.Size() if name == "step" else parameter.shape
            known = isinstance(value, Tensor) and value.shape == shape and not value.is_meta
            if not known or value.is_floating_point() != (name != "mask"):
                raise ValueError(
                    f"the state does not fit: '{name}' of parameter {key} is no"
                    f" {'bool' if name == 'mask' else 'float'} tensor of shape {tuple(shape)}"
                )


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
        return saved.to(torch.float32, copy=True)
    # Torch has cast it to the type of its parameter, which would round what is more precise than
    # bfloat16 weights.
    value = saved.to(parameter.device, copy=True)
    if name == "mask":
        value = value.bool()
    if value.is_floating_point():
        value = value.to(torch.promote_types(parameter.dtype, torch.float32))
    return shard_like(parameter, value)
