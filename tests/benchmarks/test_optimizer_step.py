"""The benchmark of optimizer steps: its networks are those it names, and it measures them."""

import torch

from sparsify.benchmarks import optimizer_step
from sparsify.benchmarks.optimizer_step import ecapa_shapes, measure, resnet34_shapes


def test_networks_have_the_published_sizes():
    """Parameters of WeSpeaker's models."""
    assert sum(shape.numel() for shape in ecapa_shapes()) == 14_657_088
    assert sum(shape.numel() for shape in resnet34_shapes()) == 6_634_336


def test_rows_compare_every_optimizer(monkeypatch):
    monkeypatch.setattr(optimizer_step, "ROUNDS", 1)
    result = measure([torch.Size((8, 6)), torch.Size((8,))], "cpu")
    rows = {row["optimizer"]: row for row in result["rows"]}
    assert result["parameters"] == 56
    assert {"AdamW fused", "SGD loop", "LinBreg foreach, quantile λ"} <= rows.keys()
    assert rows["AdamW fused"]["ratio"] == 1
    adam, ours = (rows[n]["state_tensors"] for n in ("AdamW loop", "AdaBreg loop, adaptive λ"))
    assert ours <= adam + 1
