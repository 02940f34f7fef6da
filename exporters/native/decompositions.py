"""Operators of PyTorch taken to pieces that the engine has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_aten = torch.ops.aten

# What has an operator in the engine, and would be taken to pieces that have none.
_KEPT = (
    _aten.reflection_pad1d.default,
    _aten.replication_pad1d.default,
    _aten.leaky_relu.default,
    _aten.hardtanh.default,
)
_MAX_POOL = (torch.max_pool1d, F.max_pool1d)
_NO_BEND = 16.0  # where 1 + e^-x is 1 in float32


def decompositions() -> dict[Any, Callable[..., Any]]:
    """How operators are taken to pieces, by the operators of PyTorch."""
    table = torch.export.default_decompositions()
    for kept in _KEPT:
        table.pop(kept, None)
    table.update(get_decompositions([_aten.gelu.default, _aten.linalg_vector_norm.default]))
    table.update(_OWN)
    return table


class TracedResizing(TorchFunctionMode):
    """What fixes the number of frames in PyTorch's own way, or computes it with fractions.

    Max pooling over one axis becomes that over two, and frames are repeated by reshaping.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replaces such functions."""
        options = kwargs or {}
        if function in _MAX_POOL and not options.get("return_indices"):
            return _max_pool1d(*args, **options)
        if function is F.interpolate and (factors := _whole_factors(*args, **options)):
            return _repeated(args[0] if args else options["input"], factors)
        return function(*args, **options)


def _whole_factors(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    *_: Any,
    **__: Any,
) -> list[int]:
    """By how much each axis is repeated; nothing where that is no repetition."""
    axes = input.ndim - 2
    factors = (
        list(scale_factor) if isinstance(scale_factor, tuple | list) else axes * [scale_factor]
    )
    whole = all(isinstance(each, int | float) and each == int(each) > 0 for each in factors)
    nearest = mode in ("nearest", "nearest-exact")
    return [int(each) for each in factors] if nearest and whole else []


def _repeated(x: Tensor, factors: list[int]) -> Tensor:
    for axis, factor in enumerate(factors, start=2):
        if factor > 1:
            copies = [*x.shape[: axis + 1], factor, *x.shape[axis + 1 :]]
            x = x.unsqueeze(axis + 1).expand(copies).flatten(axis, axis + 1)
    return x


def _max_pool1d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    kernel, step, around, apart = (
        each[0] if isinstance(each, list | tuple) and each else each
        for each in (kernel_size, stride, padding, dilation)
    )
    pooled = F.max_pool2d(
        x.unsqueeze(-2), (1, kernel), (1, step or kernel), (0, around), (1, apart), ceil_mode
    )
    return pooled.squeeze(-2)


def _normalized(x: Tensor, axes: list[int], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean 0 and variance 1 along axes; also the mean, and what it was multiplied by."""
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    factor = ((centred * centred).mean(axes, keepdim=True) + eps).rsqrt()
    return centred * factor, mean, factor


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = x if weight is None else x * weight
    return scaled if bias is None else scaled + bias


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    axes = list(range(x.ndim - len(shape), x.ndim))
    normalized, mean, factor = _normalized(x, axes, eps)
    return _affine(normalized, weight, bias), mean, factor


def _of_channels(x: Tensor, parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.reshape(-1, *[1] * (x.ndim - 2))


def _group_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    batch: int,
    channels: int,
    size: int,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    parts = x.reshape(batch, groups, channels // groups, *x.shape[2:])
    normalized, mean, factor = _normalized(parts, list(range(2, parts.ndim)), eps)
    made = _affine(normalized.reshape(x.shape), _of_channels(x, weight), _of_channels(x, bias))
    return made, mean, factor


def _instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    normalized, mean, factor = _normalized(x, list(range(2, x.ndim)), eps)
    made = _affine(normalized, _of_channels(x, weight), _of_channels(x, bias))
    return made, mean, factor


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return x.relu() + slope * x.clamp(max=0)


def _elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    below = (x.clamp(max=0) * input_scale).exp() - 1
    return x.relu() * scale + below * (alpha * scale)


def _softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    if threshold < _NO_BEND:
        return NotImplemented
    return x.relu() + ((x.abs() * -beta).exp() + 1).log() / beta


def _logsumexp(x: Tensor, axes: list[int], keepdim: bool = False) -> Tensor:
    highest = x.amax(axes, keepdim=True)
    total = (x - highest).exp().sum(axes, keepdim=True).log() + highest
    return total if keepdim else total.squeeze(axes)


def _max(x: Tensor, axis: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return x.amax(axis, keepdim), x.argmax(axis, keepdim)


def _min(x: Tensor, axis: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return x.amin(axis, keepdim), x.argmin(axis, keepdim)


def _adaptive_max_pool(x: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
    if list(size) != [1, 1]:
        return NotImplemented
    return x.amax((-2, -1), keepdim=True), x.flatten(-2).argmax(-1)


def _adaptive_avg_pool(x: Tensor, size: list[int]) -> Tensor:
    for axis, wanted in zip((-2, -1), size, strict=True):
        whole = x.shape[axis]
        if statically_known_true(wanted == whole):
            continue
        if wanted == 1:
            x = x.mean(axis, keepdim=True)
        elif isinstance(wanted, int) and isinstance(whole, int) and whole % wanted == 0:
            x = x.unflatten(axis, (wanted, whole // wanted)).mean(axis)
        else:
            return NotImplemented
    return x


def _var_mean(
    x: Tensor, axes: list[int] | None = None, *, correction: float = 1, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    return x.var(axes, correction=correction, keepdim=keepdim), x.mean(axes, keepdim)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is not None or dropout_p or is_causal or enable_gqa:
        return NotImplemented
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return torch.softmax(query @ key.mT * scale, -1) @ value


_OWN = {
    _aten.scaled_dot_product_attention.default: _attention,
    _aten._adaptive_avg_pool2d.default: _adaptive_avg_pool,
    _aten.var_mean.correction: _var_mean,
    _aten.native_layer_norm.default: _layer_norm,
    _aten.native_group_norm.default: _group_norm,
    _aten._native_batch_norm_legit.no_stats: _instance_norm,
    _aten._prelu_kernel.default: _prelu,
    _aten.elu.default: _elu,
    _aten.softplus.default: _softplus,
    _aten.logsumexp.default: _logsumexp,
    _aten.max.dim: _max,
    _aten.min.dim: _min,
    _aten.adaptive_max_pool2d.default: _adaptive_max_pool,
}
