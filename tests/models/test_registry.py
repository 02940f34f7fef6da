"""Networks by name, and what happens to names that are none."""

import sys
import types

import pytest
import torch
from torch import nn

from sparsify import SparsifyError, build_model
from sparsify.models.registry import architecture_of


def test_registry_names_what_is_wrong():
    with pytest.raises(SparsifyError, match="did you mean 'ecapa-tdnn'"):
        build_model("ecapa-tdn")
    with pytest.raises(SparsifyError, match="chanels"):
        build_model("ecapa-tdnn", chanels=64)
    with pytest.raises(SparsifyError, match="multiple of 8"):
        build_model("ecapa-tdnn", channels=9)
    with pytest.raises(SparsifyError, match="cannot import"):
        build_model("no_such_module:factory")
    with pytest.raises(SparsifyError, match="build_model"):
        architecture_of(torch.nn.Linear(2, 2))


def test_users_own_factory():
    model = build_model("torch.nn:Linear", in_features=3, out_features=2)
    assert isinstance(model, torch.nn.Linear)
    assert architecture_of(model).options == {"in_features": 3, "out_features": 2}


def test_only_what_makes_networks_is_called(monkeypatch):
    module = types.ModuleType("own_networks")

    def annotated(width: int) -> nn.Linear:
        return nn.Linear(width, 2)

    def silent(width):
        raise AssertionError("must not be called")

    module.annotated, module.silent = annotated, silent
    monkeypatch.setitem(sys.modules, "own_networks", module)
    assert build_model("own_networks:annotated", width=3).in_features == 3
    for name in ("own_networks:silent", "os:system", "os:sep", "subprocess:Popen"):
        with pytest.raises(SparsifyError, match="does not make networks"):
            build_model(name)
