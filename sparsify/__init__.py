"""sparsify: speaker-verification models of exactly the sparsity you ask for.

Names are imported when they are first used, so that the command line can answer without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsify.artifact.artifact import load_model
    from sparsify.artifact.saving import save_model
    from sparsify.errors import SparsifyError
    from sparsify.models.registry import build_model
    from sparsify.optim.adabreg import AdaBreg
    from sparsify.optim.lambda_rules import FixedLambda
    from sparsify.optim.linbreg import LinBreg
    from sparsify.optim.proximal import ProxSGD
    from sparsify.optim.regularizers import L1, GroupL1L2, parameter_groups
    from sparsify.optim.sparse_optimizer import clip_grad_norm_
    from sparsify.optim.target_rules import AdaptiveLambda, QuantileLambda
    from sparsify.sparsity.table import sparsity_table

__all__ = [
    "L1",
    "AdaBreg",
    "AdaptiveLambda",
    "FixedLambda",
    "GroupL1L2",
    "LinBreg",
    "ProxSGD",
    "QuantileLambda",
    "SparsifyError",
    "build_model",
    "clip_grad_norm_",
    "load_model",
    "parameter_groups",
    "save_model",
    "sparsity_table",
]

_HOMES = {
    "L1": "sparsify.optim.regularizers",
    "AdaBreg": "sparsify.optim.adabreg",
    "AdaptiveLambda": "sparsify.optim.target_rules",
    "FixedLambda": "sparsify.optim.lambda_rules",
    "GroupL1L2": "sparsify.optim.regularizers",
    "LinBreg": "sparsify.optim.linbreg",
    "ProxSGD": "sparsify.optim.proximal",
    "QuantileLambda": "sparsify.optim.target_rules",
    "SparsifyError": "sparsify.errors",
    "build_model": "sparsify.models.registry",
    "clip_grad_norm_": "sparsify.optim.sparse_optimizer",
    "load_model": "sparsify.artifact.artifact",
    "parameter_groups": "sparsify.optim.regularizers",
    "save_model": "sparsify.artifact.saving",
    "sparsity_table": "sparsify.sparsity.table",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sparsify' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
