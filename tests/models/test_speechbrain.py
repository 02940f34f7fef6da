"""SpeechBrain's ECAPA-TDNN: features, names and embeddings, against SpeechBrain's own."""

import logging

import pytest
import torch
from safetensors.torch import load_file

from sparsify import SparsifyError, load_model
from sparsify.artifact.loading import load_artifact
from sparsify.audio.features import Filterbank
from sparsify.recipe.sections import FrontEnd

HYPERPARAMETERS = """
# as in spkrec-ecapa-voxceleb
pretrained_path: speechbrain/spkrec-ecapa-voxceleb
n_mels: 80
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [16, 16, 16, 16, 48]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 128
    lin_neurons: 24
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
modules:
    embedding_model: !ref <embedding_model>
"""


@pytest.fixture(scope="module")
def tensors(own_golden):
    return load_file(own_golden / "speechbrain_ecapa_tdnn_c16.safetensors")


@pytest.fixture
def folder(tensors, tmp_path):
    state = {
        k.removeprefix("state_dict."): v for k, v in tensors.items() if k.startswith("state_dict.")
    }
    torch.save(state, tmp_path / "embedding_model.ckpt")
    (tmp_path / "hyperparams.yaml").write_text(HYPERPARAMETERS)
    return tmp_path


def test_features_equal_speechbrain(tensors):
    features = Filterbank(FrontEnd(preset="speechbrain"))(tensors["input.waveforms"])
    torch.testing.assert_close(features, tensors["output.feats"], rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", [".", "embedding_model.ckpt"])
def test_embeddings_equal_speechbrain(folder, tensors, name):
    model = load_model(folder / name)
    with torch.no_grad():
        embeddings = model(tensors["output.feats"])
    torch.testing.assert_close(embeddings, tensors["output.embs"], rtol=0, atol=1e-5)


def test_waveforms_give_speechbrains_embeddings(folder, tensors):
    artifact = load_artifact(folder)
    feats = Filterbank(artifact.front_end)(tensors["input.waveforms"])
    with torch.no_grad():
        embeddings = artifact.build()(feats)
    torch.testing.assert_close(embeddings, tensors["output.embs"], rtol=0, atol=1e-4)


def test_the_folder_says_what_it_is(folder, caplog):
    artifact = load_artifact(folder)
    assert artifact.architecture.name == "ecapa-tdnn"
    assert artifact.architecture.options["variant"] == "speechbrain"
    assert artifact.front_end == FrontEnd(preset="speechbrain")
    assert not caplog.records


def test_without_hyperparameters_the_features_are_assumed(folder, caplog):
    (folder / "hyperparams.yaml").unlink()
    with caplog.at_level(logging.WARNING):
        assert load_artifact(folder).front_end.preset == "speechbrain"
    assert "assumed" in caplog.text


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("std_norm: False", "std_norm: True", "std_norm True"),
        ("norm_type: sentence", "norm_type: global", "norm_type 'global'"),
        ("    n_mels: !ref <n_mels>\n", "    n_mels: 40\n", "n_mels 40"),
        ("    n_mels: !ref <n_mels>\n", "    n_mels: 80\n    f_max: 7600\n", "f_max 7600"),
        ("features.Fbank", "features.MFCC", "compute_features 'MFCC'"),
        ("dilations: [1, 2, 3, 4, 1]", "dilations: [1, 2, 3, 5, 1]", "dilations"),
        ("kernel_sizes", "activation: !name:torch.nn.GELU\n    kernel_sizes", "activation 'GELU'"),
        ("mean_var_norm:", "other_norm:", "mean_var_norm None"),
    ],
)
def test_other_features_are_refused(folder, before, after, said):
    file = folder / "hyperparams.yaml"
    changed = file.read_text().replace(before, after, 1)
    assert changed != file.read_text()
    file.write_text(changed)
    artifact = load_artifact(folder)  # which can still be inspected
    with pytest.raises(SparsifyError, match=said):
        artifact.build()


def test_another_network_is_refused(folder):
    state = torch.load(folder / "embedding_model.ckpt")
    state["blocks.4.tdnn1.conv.conv.weight"] = torch.zeros(1)
    torch.save(state, folder / "embedding_model.ckpt")
    with pytest.raises(SparsifyError, match=r"corresponds to its tensor 'blocks\.4"):
        load_model(folder)
    del state["blocks.4.tdnn1.conv.conv.weight"], state["mfa.conv.conv.weight"]
    torch.save(state, folder / "embedding_model.ckpt")
    with pytest.raises(SparsifyError, match="no complete ECAPA-TDNN"):
        load_model(folder)


def test_8_khz(folder):
    file = folder / "hyperparams.yaml"
    text = file.read_text().replace("    n_mels:", "    sample_rate: 8000\n    n_mels:", 1)
    file.write_text(text)
    assert load_artifact(folder).front_end.sample_rate == 8000


def test_a_rate_beyond_the_transform_is_refused():
    with pytest.raises(SparsifyError, match="44100 Hz"):
        Filterbank(FrontEnd(preset="speechbrain", sample_rate=44100))


def test_an_utterance_too_short_to_mirror_is_one_sentence(folder):
    model = load_model(folder)
    assert model(torch.randn(1, 5, 80)).isfinite().all()
    with pytest.raises(SparsifyError, match="4 frames are too few for a network that needs 5"):
        model(torch.randn(1, 4, 80))
