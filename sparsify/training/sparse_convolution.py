"""Convolutions that leave out the zeros of their weights, forwards and backwards, on the CPU."""

from __future__ import annotations

import ctypes
import functools
import logging
import subprocess
from collections.abc import Collection, Sequence
from importlib import resources
from itertools import accumulate, product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsify import compiled_code

logger = logging.getLogger(__name__)

_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
_SOURCE = resources.files("sparsify.training").joinpath("sparse_convolution.c").read_text("utf-8")
# Shares of nonzeros up to which leaving out the zeros is faster, measured with AVX2 and AVX-512.
_FEW_FOR_PRODUCTS = 0.25
_FEW_FOR_GRADIENTS = 0.15
_FEWEST_FRAMES = 16
_MOST = 2**31 - 2**20  # numbers in a batch: the C code counts places in an example in 32 bits


def leave_out_zeros(network: nn.Module, prunable: Collection[str]) -> Tensor:
    """Makes the convolutions of a network leave out the zeros of their weights.

    It computes the same but for rounding. Where few weights are zero, and with strides, groups or
    few frames, a layer computes as ever.

    Args:
        network: Stays what it is, with all that belongs to it.
        prunable: Names of the weights whose zeros may be without a gradient.

    Returns:
        Whether zeros have a gradient, 0-dim; to be set before a step.
    """
    whole = torch.tensor(True)
    for name, module in network.named_modules():
        # Of exactly these types: others may compute otherwise.
        known = type(module) in (nn.Conv1d, nn.Conv2d) and f"{name}.weight" in prunable
        if known and _fits(module):
            module._conv_forward = functools.partial(_convolve, module, whole)
    return whole


def available() -> bool:
    """Whether there is the compiled code; if not, that is logged."""
    try:
        _library()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = " ".join((getattr(error, "stderr", None) or str(error)).split())[:300]
        logger.warning(
            "convolutions multiply by zeros, the C code that does not cannot be had: %s", reason
        )
        return False
    return True


def _convolve(conv: Any, whole: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a convolution's `_conv_forward` becomes."""
    if x.dim() == weight.dim() - 1:  # one example without a batch
        return _convolve(conv, whole, x[None], weight, bias)[0]
    if not _accepts(conv, x):  # torch says what is wrong
        refused: Tensor = type(conv)._conv_forward(conv, x, weight, bias)
        return refused
    padding = list(conv.padding)
    if conv.padding_mode != "zeros":
        x = F.pad(x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode)
        padding = [0] * len(padding)
    y: Tensor = _convolution(x, weight, padding, list(conv.dilation), whole)
    return y if bias is None else y + bias.view(-1, *[1] * len(padding))


def _fits(conv: Any) -> bool:
    reach = _reach(conv.weight, conv.dilation)
    return (
        conv.groups == 1
        and set(conv.stride) == {1}
        and not isinstance(conv.padding, str)
        and all(size <= most for size, most in zip(conv.padding, reach, strict=True))
    )


def _accepts(conv: Any, x: Tensor) -> bool:
    """Whether an input has the channels that a convolution wants, and frames enough."""
    if x.dim() != conv.weight.dim() or x.shape[1] != conv.weight.shape[1]:
        return False
    sizes = zip(x.shape[2:], conv.padding, _reach(conv.weight, conv.dilation), strict=True)
    return all(size + 2 * padding > reach for size, padding, reach in sizes)


# Custom operations, so that torch.compile does not look inside.


@torch.library.custom_op("sparsify::convolution", mutates_args=(), device_types="cpu")
def _convolution(
    x: Tensor, weight: Tensor, padding: list[int], dilation: list[int], whole: Tensor
) -> Tensor:
    if not _few(weight, x, _FEW_FOR_PRODUCTS):
        return torch.convolution(x, weight, None, *_settings(padding, dilation))
    padded = _padded(x, padding)
    return _Nonzeros(weight, dilation, padded.shape[2:]).multiply(padded)


@torch.library.custom_op("sparsify::gradient_of_input", mutates_args=(), device_types="cpu")
def _gradient_of_input(
    slopes: Tensor, x: Tensor, weight: Tensor, padding: list[int], dilation: list[int]
) -> Tensor:
    if not _few(weight, slopes, _FEW_FOR_PRODUCTS):
        return _dense_gradient(slopes, x, weight, padding, dilation, 0)
    # The convolution of the slopes with the mirrored kernels, padded by what padding has left.
    mirrored = weight.transpose(0, 1).flip(list(range(2, weight.dim())))
    reach = _reach(weight, dilation)
    padded = _padded(slopes, [most - own for most, own in zip(reach, padding, strict=True)])
    return _Nonzeros(mirrored, dilation, padded.shape[2:]).multiply(padded)


@torch.library.custom_op("sparsify::gradient_of_weight", mutates_args=(), device_types="cpu")
def _gradient_of_weight(
    slopes: Tensor,
    x: Tensor,
    weight: Tensor,
    padding: list[int],
    dilation: list[int],
    whole: Tensor,
) -> Tensor:
    if whole or not _few(weight, slopes, _FEW_FOR_GRADIENTS):
        return _dense_gradient(slopes, x, weight, padding, dilation, 1)
    padded = _padded(x, padding)
    nonzeros = _Nonzeros(weight, dilation, padded.shape[2:])
    return nonzeros.correlate(padded, slopes).view(weight.shape)


@_convolution.register_fake
def _(x: Tensor, weight: Tensor, padding: list[int], dilation: list[int], whole: Tensor) -> Tensor:
    sizes = zip(x.shape[2:], padding, _reach(weight, dilation), strict=True)
    return x.new_empty(len(x), len(weight), *(n + 2 * p - r for n, p, r in sizes))


@_gradient_of_input.register_fake
def _(slopes: Tensor, x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


@_gradient_of_weight.register_fake
def _(slopes: Tensor, x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return weight.new_empty(weight.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.padding, ctx.dilation, whole = inputs
    ctx.save_for_backward(x, weight, whole)


def _backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, whole = ctx.saved_tensors
    given = (slopes, x, weight, ctx.padding, ctx.dilation)
    of_x, of_weight = ctx.needs_input_grad[:2]
    return (
        _gradient_of_input(*given) if of_x else None,
        _gradient_of_weight(*given, whole) if of_weight else None,
        *[None] * 3,
    )


_convolution.register_autograd(_backward, setup_context=_keep)


class _Nonzeros:
    """The nonzeros of a weight as a matrix, for inputs of one shape.

    Args:
        weight: `(O, I, *kernel)`.
        dilation: One for each dimension of the kernel.
        plane: Shape of a channel of the input, padding included.
    """

    def __init__(self, weight: Tensor, dilation: Sequence[int], plane: Sequence[int]) -> None:
        weight = weight.detach().contiguous()
        self._strides = list(accumulate(reversed(plane[1:]), int.__mul__, initial=1))[::-1]
        reach = _reach(weight, dilation)
        self._out = [size - most for size, most in zip(plane, reach, strict=True)]
        # Rows of a plane stay apart by what is padded, so that all their frames are one stretch.
        self._frames = 1 + sum(
            (size - 1) * stride for size, stride in zip(self._out, self._strides, strict=True)
        )
        steps = [d * stride for d, stride in zip(dilation, self._strides, strict=True)]
        kernel = product(*(range(size) for size in weight.shape[2:]))
        shifts = [sum(p * step for p, step in zip(at, steps, strict=True)) for at in kernel]
        channels = torch.arange(weight.shape[1], dtype=torch.int32) * prod(plane)
        offsets = channels[:, None] + torch.tensor(shifts, dtype=torch.int32)
        rows, columns = len(weight), offsets.numel()
        room = max(int(torch.count_nonzero(weight)), 1)
        places = [torch.empty(size, dtype=torch.int32) for size in (rows + 1, room, room)]
        self._tensors = (*places, torch.empty(room))
        self._matrix = _Matrix(rows, columns, *(tensor.data_ptr() for tensor in self._tensors))
        _library().list_nonzeros(weight.data_ptr(), offsets.data_ptr(), ctypes.byref(self._matrix))

    def multiply(self, x: Tensor) -> Tensor:
        """The convolution of a padded input `(B, I, *plane)`, `(B, O, *out)`."""
        batch = _Batch.of(x)
        frames = torch.empty(len(x), self._matrix.rows, self._frames)
        _library().multiply(*self._given(batch), frames.data_ptr(), *self._size())
        return self._outputs(frames).contiguous()

    def correlate(self, x: Tensor, slopes: Tensor) -> Tensor:
        """The gradient from that of the output `(B, O, *out)`: `(O, I·kernel)`, zero at zeros."""
        batch = _Batch.of(x)
        frames = slopes.contiguous()
        if len(self._out) > 1:
            frames = slopes.new_zeros(len(x), self._matrix.rows, self._frames)
            self._outputs(frames).copy_(slopes)
        gradient = torch.empty(self._matrix.rows, self._matrix.columns)
        sums = torch.empty_like(self._tensors[-1])
        addresses = (tensor.data_ptr() for tensor in (frames, gradient, sums))
        _library().correlate(*self._given(batch), *addresses, *self._size())
        return gradient

    def _given(self, batch: _Batch) -> tuple[Any, Any]:
        return ctypes.byref(self._matrix), ctypes.byref(batch)

    def _size(self) -> tuple[int, int]:
        return self._frames, torch.get_num_threads()

    def _outputs(self, frames: Tensor) -> Tensor:
        """Those of the frames `(B, O, frames)` that are outputs."""
        batch, rows = frames.shape[:2]
        strides = (rows * self._frames, self._frames, *self._strides)
        return frames.as_strided((batch, rows, *self._out), strides)


class _Matrix(ctypes.Structure):
    """`Sparse` in C; the nonzeros of a matrix."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("start", "column", "offset", "value")),
    )


class _Batch(ctypes.Structure):
    """`Batch` in C."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("examples", "copies")),
        *((name, ctypes.c_int64) for name in ("count", "copied", "stride", "size")),
    )
    tensors: tuple[Tensor, ...]  # which C reads

    @classmethod
    def of(cls, x: Tensor) -> _Batch:
        """The examples of a tensor `(B, …)`."""
        size = x[0].numel()
        in_one_piece = x[0].is_contiguous() and x.stride(0) >= size
        examples = x if in_one_piece else x.contiguous()
        slack = ctypes.c_int64.in_dll(_library(), "slack").value
        copied = min(slack // size + 1, len(x))
        copies = F.pad(examples[-copied:].flatten(), (0, slack))
        addresses = examples.data_ptr(), copies.data_ptr()
        batch = cls(*addresses, len(x), copied, examples.stride(0), size)
        batch.tensors = (examples, copies)
        return batch


def _few(weight: Tensor, frames: Tensor, share: float) -> bool:
    """Whether so few weights are not zero that leaving out the others is faster."""
    if frames.dtype != torch.float32 or weight.dtype != torch.float32:
        return False
    if prod(frames.shape[2:]) < _FEWEST_FRAMES or not 0 < frames.numel() < _MOST:
        return False
    return int(torch.count_nonzero(weight)) <= share * weight.numel()


def _dense_gradient(
    slopes: Tensor,
    x: Tensor,
    weight: Tensor,
    padding: Sequence[int],
    dilation: Sequence[int],
    which: int,
) -> Tensor:
    wanted = [place == which for place in range(3)]
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        slopes, x, weight, None, *_settings(padding, dilation), wanted
    )
    return gradients[which]


def _settings(padding: Sequence[int], dilation: Sequence[int]) -> tuple[Any, ...]:
    """Of a convolution as torch takes them: stride 1, one group."""
    return [1] * len(padding), padding, dilation, False, [0] * len(padding), 1


def _reach(weight: Tensor, dilation: Sequence[int]) -> list[int]:
    """How many entries fewer than its padded input a convolution's output has."""
    return [d * (size - 1) for d, size in zip(dilation, weight.shape[2:], strict=True)]


def _padded(x: Tensor, padding: Sequence[int]) -> Tensor:
    sizes = [size for each in reversed(padding) for size in (each, each)]
    return F.pad(x, sizes) if any(sizes) else x


@functools.cache
def _library() -> Any:
    library = compiled_code.library("sparse_convolution", _SOURCE, _FLAGS)
    pointer, structures = ctypes.c_void_p, (ctypes.POINTER(_Matrix), ctypes.POINTER(_Batch))
    sizes = (ctypes.c_int64, ctypes.c_int)
    library.list_nonzeros.argtypes = (pointer, pointer, ctypes.POINTER(_Matrix))
    library.multiply.argtypes = (*structures, pointer, *sizes)
    library.correlate.argtypes = (*structures, pointer, pointer, pointer, *sizes)
    for function in (library.list_nonzeros, library.multiply, library.correlate):
        function.restype = None
    return library
