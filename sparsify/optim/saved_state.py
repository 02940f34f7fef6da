"""What of a saved state torch's own loading loses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparsify.optim.sharding import shard_like


def restore(
    state: dict[str, Any], saved: Mapping[str, Any], parameter: Tensor, *, landed: bool
) -> None:
    """Mends the state of a parameter after `Optimizer.load_state_dict`.

    Args:
        state: What torch has loaded.
        saved: What it has loaded it from.
        parameter: Whose state it is.
        landed: Whether the mask is held.
    """
    for name in ("dual", "mask", "momentum_buffer", "exp_avg", "exp_avg_sq"):
        if name in saved:
            # torch has cast it to the type of its parameter, which would round what is more
            # precise than bfloat16 weights.
            precise = saved[name].to(parameter.device, copy=True)
            if name != "mask":
                precise = precise.to(torch.promote_types(parameter.dtype, torch.float32))
            state[name] = shard_like(parameter, precise)
    if "step" in saved:  # which torch would share with the state dict
        state["step"] = saved["step"].clone()
    # `set_optimizer_state_dict` adds what the optimizer had and the saved state has not.
    if not landed:
        state.pop("mask", None)
    elif "mask" in state and "dual" in state and state["dual"].dtype == parameter.dtype:
        del state["dual"]
