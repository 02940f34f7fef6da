"""WeSpeaker's model folders, made from WeSpeaker's own state dicts."""

import logging

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from sparsify import SparsifyError, build_model, load_model
from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.recipe.sections import FrontEnd

CONFIG = {
    "exp_dir": "exp/ResNet34",
    "model": "ResNet50",
    "model_init": None,
    "model_args": {
        "feat_dim": 24,
        "embed_dim": 16,
        "pooling_func": "TSTP",
        "two_emb_layer": False,
    },
    "dataset_args": {
        "resample_rate": 8000,
        "fbank_args": {"num_mel_bins": 24, "frame_shift": 10, "frame_length": 25, "dither": 1.0},
        "spec_aug": False,
    },
}
ECAPA = {"channels": 16, "aggregation_channels": 64, "embedding_dim": 24}


@pytest.fixture(scope="module")
def tensors(own_golden):
    return load_file(own_golden / "wespeaker_resnet50_m4.safetensors")


@pytest.fixture(scope="module")
def state(tensors):
    prefix = "state_dict."
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return found | {"projection.weight": torch.zeros(30, 16)}


@pytest.fixture
def folder(state, tmp_path):
    torch.save(state, tmp_path / "avg_model.pt")
    write(tmp_path, CONFIG)
    return tmp_path


def write(folder, config):
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def changed(**sections):
    return CONFIG | {k: CONFIG[k] | v if k in CONFIG else v for k, v in sections.items()}


@pytest.mark.parametrize("name", [".", "avg_model.pt"])
def test_embeddings_equal_wespeaker(folder, tensors, name):
    artifact = load_artifact(folder / name)
    assert artifact.front_end == FrontEnd(preset="wespeaker", sample_rate=8000, num_mel_bins=24)
    with torch.no_grad():
        embeddings = artifact.build()(tensors["input.feats"])
    torch.testing.assert_close(embeddings, tensors["output.embs"], rtol=0, atol=1e-5)


def test_the_head_is_dropped(folder):
    layers = {layer.name for layer in weights_table(load_artifact(folder)).layers}
    assert "seg_1.weight" in layers
    assert "projection.weight" not in layers


def test_ecapa_equals_wespeaker(golden, tmp_path):
    tensors = load_file(golden / "wespeaker_ecapa_tdnn_glob_c64.safetensors")
    prefix = "state_dict."
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    torch.save(state, tmp_path / "avg_model.pt")
    arguments = {"feat_dim": 80, "embed_dim": 192, "pooling_func": "ASTP"}
    write(tmp_path, {"model": "ECAPA_TDNN_GLOB_c512", "model_args": arguments})
    artifact = load_artifact(tmp_path)
    assert artifact.front_end == FrontEnd(preset="wespeaker")
    with torch.no_grad():
        embeddings = artifact.build()(tensors["input.feats"])
    torch.testing.assert_close(embeddings, tensors["output.embs"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("context", [True, False])
def test_ecapa_with_and_without_global_context(tmp_path, context):
    model = build_model("ecapa-tdnn", global_context=context, **ECAPA)
    torch.save(model.state_dict(), tmp_path / "avg_model.pt")
    name = "ECAPA_TDNN_GLOB_c512" if context else "ECAPA_TDNN_c512"
    write(tmp_path, {"model": name, "model_args": {"feat_dim": 80, "embed_dim": 24}})
    options = load_artifact(tmp_path).architecture.options
    hidden = {"se_channels": 128, "attention_channels": 128}
    assert options == ECAPA | hidden | {"feature_dim": 80, "global_context": context}
    assert load_model(tmp_path).state_dict().keys() == model.state_dict().keys()


def test_resnet_with_attentive_pooling(tmp_path):
    model = build_model("resnet18", channels=4, pooling="attentive")
    torch.save(model.state_dict(), tmp_path / "avg_model.pt")
    arguments = {"feat_dim": 80, "embed_dim": 256, "pooling_func": "ASTP"}
    write(tmp_path, {"model": "ResNet18", "model_args": arguments})
    feats = torch.randn(1, 30, 80)
    assert torch.equal(load_model(tmp_path)(feats), model.eval()(feats))


def test_the_file_is_found_where_wespeaker_puts_it(folder, state):
    (folder / "models").mkdir()
    file = (folder / "avg_model.pt").rename(folder / "models" / "avg_model.pt")
    assert load_artifact(folder).path == file
    assert load_artifact(file).architecture.name == "resnet50"
    last = file.rename(file.with_name("final_model.pt"))
    assert load_artifact(folder).path == last
    epoch = last.rename(file.with_name("model_7.pt"))
    with pytest.raises(SparsifyError, match=r"no avg_model\.pt: name the model file"):
        load_artifact(folder)
    assert load_artifact(epoch).architecture.name == "resnet50"


@pytest.mark.parametrize(
    "wrap", [lambda s: {"model": s}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_formats_of_torch_save(folder, state, wrap, zipped):
    torch.save(wrap(state), folder / "avg_model.pt", _use_new_zipfile_serialization=zipped)
    assert load_model(folder).seg_1.out_features == 16


def test_what_would_run_code_is_refused(folder):
    class Evil:
        def __reduce__(self):
            return print, ("must not be printed",)

    torch.save({"conv1.weight": Evil()}, folder / "avg_model.pt")
    with pytest.raises(SparsifyError, match=r"beside the weights .*print"):
        load_artifact(folder)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CONFIG | {"model": "ERes2Net"}, "describes a ERes2Net"),
        (CONFIG | {"model": "ResNet34"}, "does not fit the architecture 'resnet34'"),
        (
            CONFIG | {"model": "ECAPA_TDNN_c512", "model_args": {}},
            r"no tensor 'layer1\.conv\.weight'",
        ),
        (changed(model_args={"pooling_func": "MQMHASTP"}), "pooling 'MQMHASTP'"),
        (changed(model_args={"two_emb_layer": True}), "two_emb_layer"),
        (changed(dataset_args={"frontend": "s3prl"}), "frontend 's3prl'"),
        (changed(dataset_args={"fbank_args": {"frame_shift": 5}}), "frame_shift 5"),
        (changed(dataset_args={"cmvn_args": {"norm_var": True}}), "norm_var True"),
    ],
)
def test_what_cannot_be_represented_is_refused_when_built(folder, config, said):
    write(folder, config)
    artifact = load_artifact(folder)  # which can still be inspected
    with pytest.raises(SparsifyError, match=said):
        artifact.build()
    with pytest.raises(SparsifyError, match=said):
        artifact.load_into(build_model("resnet34"))


def test_filterbank_and_network_must_agree(tmp_path):
    torch.save(build_model("ecapa-tdnn", **ECAPA).state_dict(), tmp_path / "avg_model.pt")
    data = {"fbank_args": {"num_mel_bins": 40}}
    write(tmp_path, {"model": "ECAPA_TDNN_GLOB_c512", "model_args": {}, "dataset_args": data})
    with pytest.raises(SparsifyError, match="80 inputs but 40 filterbank bins"):
        load_model(tmp_path)


def test_a_configuration_of_somebody_else_says_nothing(folder, state):
    (folder / "config.yaml").write_text("model: {name: ResNet34}\nlist: !!python/tuple [1]\n")
    assert load_artifact(folder / "avg_model.pt").architecture is None
    with pytest.raises(SparsifyError, match="not a run directory"):
        load_artifact(folder)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_bare_state_dict_fits_its_architecture(state, tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    (torch.save if suffix == ".pt" else save_file)(state, file)
    model = build_model("resnet50", channels=4, feature_dim=24, embedding_dim=16)
    load_artifact(file).load_into(model)
    assert torch.equal(model.seg_1.weight, state["seg_1.weight"])
    with pytest.raises(SparsifyError, match="does not say which network"):
        load_model(file)


def test_other_features_than_the_models_are_warned_of(folder, caplog):
    artifact = load_artifact(folder)
    model = build_model("resnet50", channels=4, feature_dim=24, embedding_dim=16)
    with caplog.at_level(logging.WARNING):
        artifact.load_into(model, artifact.front_end)
        assert not caplog.records
        artifact.load_into(model, FrontEnd(num_mel_bins=24))
    assert "trained with other features" in caplog.text


MODELS = {
    "wespeaker_campplus_g8": ("CAMPPlus", {"fbank_args": {"num_mel_bins": 80}}),
    "wespeaker_redimnet2_b0_c4": (
        "ReDimNet2B0",
        {"frontend": "tfmel", "tfmel_args": {"n_mels": 72, "norm_signal": True}, "cmvn": False},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_campplus_and_redimnet2_equal_wespeaker(golden, tmp_path, name):
    tensors = load_file(golden / f"{name}.safetensors")
    prefix = "state_dict."
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    torch.save(state | {"projection.weight": torch.zeros(30, 64)}, tmp_path / "avg_model.pt")
    model, dataset = MODELS[name]
    write(tmp_path, {"model": model, "model_args": {"embed_dim": 64}, "dataset_args": dataset})
    artifact = load_artifact(tmp_path)
    bins = artifact.front_end.num_mel_bins
    feats = tensors["input.feats"]
    feats = feats if feats.shape[2] == bins else feats.transpose(1, 2)
    with torch.no_grad():
        embeddings = artifact.build()(feats)
    torch.testing.assert_close(embeddings, tensors["output.embs"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("mel", "words"),
    [({"norm_signal": False}, "norm_signal"), ({"norm_signal": True, "f_max": 8000}, "f_max")],
)
def test_another_mel_filterbank_is_refused(golden, tmp_path, mel, words):
    tensors = load_file(golden / "wespeaker_redimnet2_b0_c4.safetensors")
    torch.save(tensors, tmp_path / "avg_model.pt")
    dataset = {"frontend": "tfmel", "tfmel_args": mel}
    write(tmp_path, {"model": "ReDimNet2B0", "model_args": {}, "dataset_args": dataset})
    with pytest.raises(SparsifyError, match=words):
        load_artifact(tmp_path).build()
