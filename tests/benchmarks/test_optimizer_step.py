"""The benchmark of optimizer steps: its networks are those it names, and it measures them."""

import pytest
import torch

from sparsify.benchmarks.device_part import Setting
from sparsify.benchmarks.optimizer_step import all_ways, every_rule, measure, shapes_of


@pytest.mark.parametrize(
    ("name", "parameters"), [("ECAPA-TDNN-1024", 14_657_088), ("ResNet34", 6_634_336)]
)
def test_networks_have_the_published_sizes(name, parameters):
    """Parameters of WeSpeaker's models."""
    shapes = shapes_of(Setting("cpu").network(name))
    assert sum(shape.numel() for shape in shapes) == parameters


@pytest.mark.parametrize(
    ("variants", "names"),
    [
        (all_ways("cpu"), {"SGD loop", "LinBreg foreach, quantile λ", "AdaBreg fused, adaptive λ"}),
        (every_rule(), {"SGD fused", "AdaBreg landed", "LinBreg landed", "AdaBreg fixed λ"}),
    ],
)
def test_rows_compare_every_optimizer(variants, names):
    result = measure([torch.Size((8, 6)), torch.Size((8,))], "cpu", variants, rounds=1)
    rows = {row["optimizer"]: row for row in result["rows"]}
    assert result["parameters"] == 56
    assert names | {"AdamW fused"} <= rows.keys()
    assert rows["AdamW fused"]["ratio"] == 1
    adam = rows["AdamW fused"]["state_tensors"]
    for name, row in rows.items():
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        if name.startswith("AdaBreg"):
            assert row["state_tensors"] <= adam + 1
