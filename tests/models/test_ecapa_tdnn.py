"""ECAPA-TDNN against WeSpeaker's implementation and its published sizes."""

import pytest
import torch
from safetensors.torch import load_file

from sparsify import build_model


def test_embeddings_equal_wespeaker(golden):
    tensors = load_file(golden / "wespeaker_ecapa_tdnn_glob_c64.safetensors")
    prefix = "state_dict."
    model = build_model("ecapa-tdnn", channels=64).eval()
    model.load_state_dict(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    )
    with torch.no_grad():
        embeddings = model(tensors["input.feats"])
    torch.testing.assert_close(embeddings, tensors["output.embs"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters"), [("ecapa-tdnn-512", 6_190_720), ("ecapa-tdnn-1024", 14_657_088)]
)
def test_full_sizes(name, parameters):
    with torch.device("meta"):
        model = build_model(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
