"""Networks of which channels were taken out: the same code, with smaller tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from sparsify.errors import SparsifyError
from sparsify.models.layers import Sum
from sparsify.models.names import Widths

_MOST_CHANNELS = 1 << 16  # of a sum


def narrow(model: nn.Module, widths: Widths, name: str) -> None:
    """Makes tensors of a network smaller, in place; what stays of them are their first elements.

    Args:
        model: The network.
        widths: What to change.
        name: What the network is called in errors.

    Raises:
        SparsifyError: There is no such tensor, or it cannot become like that.
    """
    try:
        for key, width in widths.items():
            path, _, own = key.rpartition(".")
            module = model.get_submodule(path)
            if isinstance(module, Sum):
                module.lacking(own, _present(own, width))
            else:
                _cut(module, own, width)
            _adapt(module)
    except (AttributeError, TypeError, ValueError) as error:
        reason = f"'{key:.80}', {error!s:.200}"
        raise SparsifyError(f"the widths of '{name}' do not fit it: {reason}") from error


def _present(operand: str, text: Any) -> list[bool]:
    if operand not in ("first", "second"):
        raise ValueError("a sum has a first and a second operand")
    if not isinstance(text, str) or not set(text) <= {"0", "1"} or "1" not in text:
        raise ValueError("must be text of 0 and 1")
    if len(text) > _MOST_CHANNELS:
        raise ValueError(f"has more than {_MOST_CHANNELS} channels")
    return [each == "1" for each in text]


def _cut(module: nn.Module, own: str, shape: Any) -> None:
    tensor = getattr(module, own)
    if not isinstance(tensor, Tensor):
        raise TypeError("which is no tensor")
    full = tuple(tensor.shape)
    if (
        not isinstance(shape, Sequence)
        or len(shape) != len(full)
        or not all(
            type(size) is int and 1 <= size <= most for size, most in zip(shape, full, strict=True)
        )
    ):
        raise ValueError(f"whose shape {list(full)} cannot become {shape!r:.80}")
    part = tensor.detach()[tuple(slice(size) for size in shape)].clone()
    if isinstance(tensor, nn.Parameter):
        setattr(module, own, nn.Parameter(part, requires_grad=tensor.requires_grad))
    else:
        setattr(module, own, part)


def _adapt(module: nn.Module) -> None:
    """Tells a layer the sizes of its tensors."""
    if isinstance(module, _ConvNd) and not module.transposed:
        depthwise = module.groups > 1 and module.groups == module.in_channels
        module.out_channels = module.weight.shape[0]
        module.groups = module.out_channels if depthwise else module.groups
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _NormBase) and module.running_mean is not None:
        module.num_features = len(module.running_mean)
