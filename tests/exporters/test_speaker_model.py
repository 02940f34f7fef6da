from dataclasses import replace

import numpy as np
import pytest
import torch

from sparsify.errors import SparsifyError
from sparsify.exporters.speaker_model import load_speaker_model


@pytest.mark.parametrize("name", ["dense", "bitmask", "coded", "run", "onnx"])
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_embedders_agree_with_the_model(artifacts, sparse_model, name, threads):
    feats = np.random.default_rng(0).normal(size=(57, 80)).astype(np.float32)
    embedding = load_speaker_model(artifacts[name], threads).embedder(feats)
    with torch.inference_mode():
        expected = sparse_model(torch.from_numpy(feats)[None])[0].numpy()
    assert embedding.shape == (24,)
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, expected, atol=1e-5 * np.abs(expected).max())


def test_a_folder_that_is_not_ours_has_the_digest_of_its_files(artifacts, tmp_path):
    model = load_speaker_model(artifacts["dense"])
    foreign = replace(model.artifact, path=tmp_path, architecture=None)
    (tmp_path / "weights").write_bytes(b"1")
    before = replace(model, artifact=foreign).digest
    (tmp_path / "weights").write_bytes(b"2")
    assert replace(model, artifact=foreign).digest not in (before, model.digest)


@pytest.mark.parametrize(
    "text", ["", "[", "5", "[[1]]", '["1"]', "[true]", "[null]", "[NaN]", "[1e999]", "{}"]
)
def test_a_mean_embedding_that_is_none_is_refused(artifacts, text):
    model = load_speaker_model(artifacts["dense"])
    model.artifact.metadata["embedding_mean"] = text
    with pytest.raises(SparsifyError, match="embedding_mean"):
        _ = model.embedding_mean
