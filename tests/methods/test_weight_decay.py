"""One policy for all methods: matrices and kernels decay, also of the head; nothing else does."""

import pytest
import torch
from torch import nn

from sparsify.methods.base import Task
from sparsify.methods.names import method_names
from sparsify.methods.registry import build_method, option_names, resolve
from sparsify.recipe.recipe import load_recipe

OPTIONS = {
    "adabreg-fixed": {"lambda_value": 0.0},
    "linbreg-fixed": {"lambda_value": 0.0},
    "rewa": {"latent_decay": 0.5},
}


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 6)
        self.matrix = nn.Parameter(torch.randn(4, 4))  # not prunable
        self.scale = nn.Parameter(torch.randn(()))


@pytest.mark.parametrize("name", method_names())
def test_matrices_and_kernels_decay_and_nothing_else(name):
    torch.manual_seed(0)
    network, head = _Network(), nn.Linear(6, 3)
    decays = "weight_decay" in option_names(name)
    options = OPTIONS.get(name, {}) | ({"weight_decay": 0.5} if decays else {})
    changes = {"method": name} | {f"methods.{name}.{k}": v for k, v in options.items()}
    task = Task(network, head, 0.5, (), 100, 0, pretrained=True)
    method = build_method(resolve(load_recipe("quickstart", changes=changes)), task)
    parameters = [*network.named_parameters(), *head.named_parameters("head")]
    before = {name: parameter.detach().clone() for name, parameter in parameters}
    for _, parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    method.mask_gradients()
    method.step()
    for name, parameter in parameters:
        was = before[name]
        if parameter.dim() <= 1:
            assert torch.equal(parameter, was), name
        elif name in ("head.weight", "matrix"):
            ratio = parameter / was
            assert ((ratio > 0) & (ratio < 1)).all() if decays else torch.equal(parameter, was)
    # λ moves the prunable weights as well, so that of these the groups must tell.
    own = {id(parameter) for _, parameter in parameters}  # STR has thresholds beside them
    for group in (g for g in method.optimizer.param_groups if id(g["params"][0]) in own):
        assert (group["weight_decay"] > 0) == (decays and group["params"][0].dim() > 1)
