"""What is pruned besides the weights of convolutions and linear layers, on demand."""

import pytest
import torch
from torch import nn

from sparsify import L1, AdaBreg, SparsifyError, parameter_groups, sparsity_table
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.table import dense_in_words, left_dense


def network():
    return nn.ModuleDict(
        {
            "lstm": nn.LSTM(8, 16),
            "norm": nn.LayerNorm(16),
            "linear": nn.Linear(16, 4),
            "levels": nn.Embedding(30, 8),
        }
    )


LSTM = ["lstm.weight_ih_l0", "lstm.weight_hh_l0"]


@pytest.mark.parametrize(
    ("ignore", "include", "names"),
    [
        ((), (), ["linear.weight"]),
        ((), ("lstm.*",), [*LSTM, "linear.weight"]),
        (
            ("lstm.*_hh_*",),
            ("lstm.*", "levels.weight"),
            [LSTM[0], "linear.weight", "levels.weight"],
        ),
        (("linear.*",), "levels.*", ["levels.weight"]),
        ((), ("linear.weight",), ["linear.weight"]),
    ],
)
def test_what_is_included_is_prunable_unless_it_is_protected(ignore, include, names):
    assert list(prunable_parameters(network(), ignore, include)) == names
    groups = parameter_groups(network(), L1(), ignore, include)
    assert len(groups[0]["params"]) == len(names)


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [("gru.*", "include: no parameter .* 'gru"), ("norm.*", "biases and norms alone")],
)
def test_patterns_that_include_nothing_are_typos(pattern, sentence):
    with pytest.raises(SparsifyError, match=sentence):
        prunable_parameters(network(), include=[pattern])


def test_large_matrices_that_stay_dense_are_named():
    table = sparsity_table(network())
    assert [layer.name for layer in left_dense(table)] == [*LSTM, "levels.weight"]
    assert [layer.name for layer in left_dense(table, ("lstm.*",))] == ["levels.weight"]
    assert dense_in_words(left_dense(table)) == (
        "left dense: 1,776 weights of LSTM, Embedding, such as lstm.weight_ih_l0"
        " (--set 'model.include=[lstm.*, levels.*]' prunes them)"
    )
    assert not left_dense(sparsity_table(network(), (), ["lstm.*", "levels.*"]))


def test_included_weights_land_at_the_target():
    torch.manual_seed(0)
    model = network()
    optimizer = AdaBreg(parameter_groups(model, include=["lstm.*"]), lr=0.01)
    output = model["linear"](model["norm"](model["lstm"](torch.randn(5, 3, 8))[0]))
    output.square().sum().backward()
    optimizer.step()
    optimizer.land(0.9)
    table = sparsity_table(model, include=["lstm.*"])
    assert table.sparsity == pytest.approx(0.9, abs=1e-3)
    assert all(layer.nonzero for layer in table.layers if layer.type != "LSTM")
