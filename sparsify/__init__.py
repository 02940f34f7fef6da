"""sparsify: speaker-verification models of exactly the sparsity you ask for."""

from sparsify.errors import SparsifyError
from sparsify.models.registry import build_model
from sparsify.optim.bregman import AdaBreg, LinBreg
from sparsify.optim.groups import parameter_groups
from sparsify.optim.lambda_rules import AdaptiveLambda, FixedLambda, QuantileLambda
from sparsify.optim.proximal import ProxSGD
from sparsify.optim.regularizers import L1, GroupL1L2
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
    "parameter_groups",
    "sparsity_table",
]
