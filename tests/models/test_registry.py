"""Networks by name, and what happens to names that are none."""

import importlib
import resource
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from sparsify import SparsifyError, build_model
from sparsify.models.registry import Architecture, architecture_of


def test_registry_names_what_is_wrong():
    with pytest.raises(SparsifyError, match="did you mean 'ecapa-tdnn'"):
        build_model("ecapa-tdn")
    with pytest.raises(SparsifyError, match="did you mean 'channels'"):
        build_model("ecapa-tdnn", chanels=64)
    for wrong in ("abc", True, [8]):
        with pytest.raises(SparsifyError, match="must be a number, as 32 is"):
            build_model("resnet34", channels=wrong)
    assert build_model("resnet18", channels=np.int64(4)).conv1.out_channels == 4
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


def test_any_factory_that_the_user_names_will_do(monkeypatch):
    module = types.ModuleType("own_networks")
    module.silent = lambda width: nn.Linear(width, 2)
    module.number = lambda: 3
    module.text = "x"
    monkeypatch.setitem(sys.modules, "own_networks", module)
    assert build_model("own_networks:silent", width=3).in_features == 3
    with pytest.raises(SparsifyError, match="did you mean 'width'"):
        build_model("own_networks:silent", widht=3)
    with pytest.raises(SparsifyError, match="made no network but a int"):
        build_model("own_networks:number")
    with pytest.raises(SparsifyError, match="cannot be called"):
        build_model("own_networks:text")


@pytest.mark.parametrize(
    "code",
    [
        "syntax error",
        "1 / 0",
        "raise KeyError('x')",
        "raise SystemExit(0)",
        "def make(): raise AssertionError('no')",
        "def make(): raise SystemExit(0)",
        "def make(): return undefined",
        "class make: pass",
    ],
)
def test_whatever_the_users_code_raises_names_it(tmp_path, monkeypatch, code):
    (tmp_path / "raising_network.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "raising_network", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(SparsifyError, match="raising_network:make"):
        build_model("raising_network:make")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ecapa-tdnn", {"channels": 8 * 10**9}),
        ("ecapa-tdnn", {"channels": 8 * 10**30}),
        ("ecapa-tdnn", {"name": "ecapa-tdnn"}),
        ("ecapa-tdnn", {"self": 1}),
        ("resnet34", {"blocks": [10**9] * 4}),
        ("resnet34", {"blocks": "four"}),
        ("redimnet2-b0", {"blocks": [10**9] * 6}),
        ("resnet34", {"channels": None}),
    ],
)
def test_outlines_take_no_memory_and_odd_options_are_sentences(name, options):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        outline = Architecture(name, options).outline()
    except SparsifyError as error:
        assert f"model '{name}'" in str(error)  # noqa: PT017
    else:
        assert all(parameter.is_meta for parameter in outline.parameters())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_outlines_have_the_shapes_of_networks():
    for name in ("ecapa-tdnn", "resnet18"):
        architecture = Architecture(name, {"channels": 16})
        shapes, expected = (
            {key: tensor.shape for key, tensor in network.state_dict().items()}
            for network in (architecture.outline(), architecture.build())
        )
        assert shapes == expected
