"""What counts as sparse, against naive counts."""

import re

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from sparsify import SparsifyError, build_model, parameter_groups, sparsity_table
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.zeros import table_from_arrays


def _groups(model, ignore):
    return parameter_groups(model, ignore=ignore)


def _half_zero():
    model = build_model("ecapa-tdnn", channels=16, aggregation_channels=32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            parameter[torch.rand(parameter.shape, generator=generator) < 0.5] = 0
    return model


def test_totals_equal_a_naive_count():
    model = _half_zero()
    table = sparsity_table(model)
    zeros = total = prunable_zeros = prunable_total = 0
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            count = sum(value == 0 for value in parameter.flatten().tolist())
            zeros, total = zeros + count, total + parameter.numel()
            if isinstance(module, (nn.Conv1d, nn.Linear)) and name == "weight":
                prunable_zeros += count
                prunable_total += parameter.numel()
    assert table.parameters == total
    assert table.nonzero == total - zeros
    assert table.global_sparsity == zeros / total
    assert table.sparsity == prunable_zeros / prunable_total
    assert [layer.name for layer in table.layers] == [n for n, _ in model.named_parameters()]


def test_ignored_layers_do_not_count():
    model = _half_zero()
    with torch.no_grad():
        model.layer1.conv.weight.fill_(1)
    every = prunable_parameters(model)
    fewer = prunable_parameters(model, ["layer1.*", "linear.weight"])
    assert set(every) - set(fewer) == {"layer1.conv.weight", "linear.weight"}
    assert sparsity_table(model, ["layer1.*"]).sparsity > sparsity_table(model).sparsity
    assert sparsity_table(model, ["layer1.*"]).parameters == sparsity_table(model).parameters


def test_shared_weight_is_counted_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert list(prunable_parameters(model)) == ["0.weight"]
    assert sparsity_table(model).parameters == 16 + 8
    for name in ("0.weight", "1.weight", "1.*"):
        assert not prunable_parameters(model, [name])


@pytest.mark.parametrize("pattern", ["nothing.*", "0", "0.Weight", ""])
@pytest.mark.parametrize("read", [prunable_parameters, sparsity_table, _groups])
def test_a_pattern_that_protects_nothing_is_a_typo(read, pattern):
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(SparsifyError, match=re.escape(f"is called '{pattern}'")):
        read(model, ignore=["0.bias", pattern])
    read(model, ignore=["0.bias"])  # which would not be pruned anyway


def test_foreign_tensors():
    arrays = {
        "matrix": np.zeros((13, 5)),
        "half": np.zeros((13, 5), dtype=ml_dtypes.bfloat16),
        "small": np.zeros((8, 8)),
        "vector": np.zeros(100),
        "integers": np.zeros((13, 5), dtype=np.int64),
        "running_mean": np.zeros((13, 5)),
    }
    found = {layer.name: layer.prunable for layer in table_from_arrays(arrays, {}).layers}
    assert found == {"matrix": True, "half": True, "small": False, "vector": False}


def test_printed_table_names_every_prunable_layer():
    text = str(sparsity_table(_half_zero()))
    assert "layer2.se_res2block.1.convs.0.weight" in text
    assert "whole model" in text
    assert "bias" not in text
