"""How often the weights of a network multiply: 90 % of the weights are not 90 % of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sparsify.errors import SparsifyError
from sparsify.sparsity.eager import EagerMode
from sparsify.sparsity.prunable import prunable_parameters

_ATEN = torch.ops.aten
# Where the factors of a product stand among the arguments.
_PRODUCTS: Mapping[Callable[..., Any], tuple[int, int]] = {
    _ATEN.mm.default: (0, 1),
    _ATEN.bmm.default: (0, 1),
    _ATEN.mv.default: (0, 1),
    _ATEN.dot.default: (0, 1),
    _ATEN.addmm.default: (1, 2),
    _ATEN.baddbmm.default: (1, 2),
    _ATEN.addmv.default: (1, 2),
}


def uses_of(model: nn.Module, feats: Tensor) -> dict[str, Tensor]:
    """How often each weight multiplies in one forward pass, by the parameter that it belongs to.

    A weight of a convolution counts once for every position of the output, padding included, one of
    a matrix once for every row it is applied to: the convention of `torch.utils.flop_counter`,
    which counts each as two operations. Biases, norms and what has no weight do not count.

    Args:
        model: Any network in eval mode; on the device `meta` nothing is computed.
        feats: Features `(B, T, bins)` on the same device.

    Returns:
        For every parameter that multiplies a tensor of its shape, int64, on the CPU.

    Raises:
        SparsifyError: A prunable weight is used by something that is not counted.
    """
    with torch.no_grad(), _in_single_steps(), _Counting(model) as counting:
        model(feats)
    return counting.uses


@contextmanager
def _in_single_steps() -> Iterator[None]:
    """Within it, attention and recurrent layers are no single operations that hide products."""
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before[0])
        torch.backends.mkldnn.enabled = before[1]


class _Counting(EagerMode):
    """Sees every operation, and which parameter a factor is a view of."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        prunable = {id(parameter) for parameter in prunable_parameters(model).values()}
        named = dict(model.named_parameters())
        self.uses: dict[str, Tensor] = {}
        self._parameters = named
        self._names = {storage_of(parameter): name for name, parameter in named.items()}
        self._prunable = {storage_of(p) for p in named.values() if id(p) in prunable}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is _ATEN.convolution.default:
            x, weight, transposed = args[0], args[1], args[6]
            image = x if transposed else result
            # Every position of one channel; a batch is more of them.
            self._add(weight, weight.numel() * image.numel() // image.shape[1])
        elif func in _PRODUCTS:
            first, second = (args[place] for place in _PRODUCTS[func])
            batch = first.shape[0] if first.dim() == 3 else 1
            count = first.numel() * second.numel() // (batch * first.shape[-1])
            for factor in (first, second):
                self._add(factor, count)
        else:
            self._check(func, args, kwargs, result)
        return result

    def _add(self, factor: Tensor, count: int) -> None:
        name = self._names.get(storage_of(factor))
        if name is None:
            return
        if name not in self.uses:
            shape = self._parameters[name].shape
            self.uses[name] = torch.zeros(shape, dtype=torch.int64, device="cpu")
        # Where the entries of the factor lie in the parameter: several may lie in one place.
        places = torch.arange(self.uses[name].numel(), device="cpu").as_strided(
            factor.size(), factor.stride(), factor.storage_offset()
        )
        each = torch.full((), count // factor.numel(), dtype=torch.int64, device="cpu")
        flat = self.uses[name].view(-1)
        flat.index_add_(0, places.flatten(), each.expand(places.numel()))

    def _check(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Refuses to overlook a weight: whatever takes one must count, or be a view of it."""
        views = {storage_of(each) for each in tree_leaves(result) if isinstance(each, Tensor)}
        for each in tree_leaves((args, kwargs)):
            if isinstance(each, Tensor) and storage_of(each) in self._prunable - views:
                raise SparsifyError(
                    f"'{self._names[storage_of(each)]}' is used by {func}, which is not counted"
                )


def storage_of(tensor: Tensor) -> int:
    """Tells which memory a tensor is a view of, also on the device `meta`."""
    return tensor.untyped_storage()._cdata
