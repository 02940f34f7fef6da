"""Sparse optimizers, regularizers and λ rules, usable in any training loop."""

from sparsify.optim.adabreg import AdaBreg
from sparsify.optim.lambda_rules import AdaptiveLambda, FixedLambda, QuantileLambda
from sparsify.optim.linbreg import LinBreg
from sparsify.optim.proximal import ProxSGD
from sparsify.optim.regularizers import L1, GroupL1L2, parameter_groups

__all__ = [
    "L1",
    "AdaBreg",
    "AdaptiveLambda",
    "FixedLambda",
    "GroupL1L2",
    "LinBreg",
    "ProxSGD",
    "QuantileLambda",
    "parameter_groups",
]
