"""A toolkit that is added to the list is asked for folders, state dicts and heads, and named."""

import sys
import types

import pytest
import torch

from sparsify import SparsifyError, build_model, load_model
from sparsify.models import toolkits
from sparsify.models.foreign import ForeignModel
from sparsify.models.registry import Architecture
from sparsify.recipe.sections import FrontEnd

OPTIONS = {"channels": 4, "feature_dim": 24, "embedding_dim": 8}


def without_head(tensors):
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}


def model_file(folder):
    file = folder / "weights.pt"
    return file if file.is_file() else None


def interpret(file, tensors):
    if "head.weight" not in tensors:
        return None
    return ForeignModel(
        Architecture("resnet18", OPTIONS), FrontEnd(num_mel_bins=24), without_head(tensors)
    )


def test_a_new_toolkit_is_asked_for_everything(tmp_path, monkeypatch):
    others = {"model_file": model_file, "interpret": interpret, "without_head": without_head}
    monkeypatch.setitem(sys.modules, "toykit", types.SimpleNamespace(**others))
    monkeypatch.setitem(toolkits.TOOLKITS, "Toykit", ("toykit", "weights.pt"))
    with pytest.raises(SparsifyError, match="folder of SpeechBrain or WeSpeaker or Toykit"):
        load_model(tmp_path)
    model = build_model("resnet18", **OPTIONS).eval()
    state = model.state_dict() | {"head.weight": torch.zeros(3, 8), "projection.weight": None}
    assert toolkits.without_head(state).keys() == model.state_dict().keys()
    del state["projection.weight"]
    torch.save(state, tmp_path / "weights.pt")
    feats = torch.randn(1, 20, 24)
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path)(feats), model(feats))
