import hashlib
import json
import struct
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact, load_model
from sparsify.artifact.saving import save_model
from sparsify.artifact.seals import source_digest
from sparsify.artifact.tensor_file import write_tensors
from sparsify.errors import SparsifyError
from sparsify.models.registry import Architecture, build_model
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.sections import FrontEnd, ModelSection
from sparsify.sparsity.counting import sparsity_table
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.tensors import arrays_of

OURS = ("dense", "bitmask", "run", "onnx", "coded")


def raw(path):
    """The tensors and metadata of a safetensors file, read without our code."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return safetensors.numpy.load(content), metadata


def unsealed(metadata):
    """Metadata without what would tell that a file has changed."""
    return {key: text for key, text in metadata.items() if not key.endswith("_digest")}


def linear(**options):
    return build_model("torch.nn:Linear", in_features=12, out_features=9, **options)


@pytest.mark.parametrize("name", OURS)
def test_the_model_comes_back_bit_by_bit(artifacts, sparse_model, name):
    model = load_model(artifacts[name])
    assert not model.training
    restored = model.state_dict()
    for key, expected in sparse_model.state_dict().items():
        assert restored[key].numpy().tobytes() == expected.numpy().tobytes(), key


@pytest.mark.parametrize("name", OURS)
def test_the_loaded_network_computes_the_same(artifacts, sparse_model, name):
    feats = torch.randn(2, 40, 80)
    with torch.inference_mode():
        assert torch.equal(load_model(artifacts[name])(feats), sparse_model(feats))


@pytest.mark.parametrize("name", OURS)
def test_artifacts_describe_their_model(artifacts, sparse_model, name):
    artifact = load_artifact(artifacts[name])
    table = sparsity_table(sparse_model)
    assert artifact.architecture == sparse_model.architecture
    assert artifact.recipe == Recipe(seed=7)
    assert artifact.front_end == FrontEnd()
    assert artifact.layout == (name if name in ("bitmask", "coded") else "dense")
    assert float(artifact.metadata["sparsity"]) == table.sparsity
    assert float(artifact.metadata["global_sparsity"]) == table.global_sparsity
    assert weights_table(artifact) == table


def test_the_digest_traces_every_format_to_the_model(artifacts, sparse_model):
    digests = {load_artifact(artifacts[name]).metadata["source_digest"] for name in OURS}
    digests |= {source_digest(arrays_of(load_model(artifacts[name]).state_dict())) for name in OURS}
    assert digests == {source_digest(arrays_of(sparse_model.state_dict()))}


def test_the_digest_is_a_sha256_of_names_types_shapes_and_bytes():
    state = {"b": np.float32([[1.5]]), "a": np.float32([0, -2])}
    content = b"a\0torch.float32\0(2,)\0" + struct.pack("<2f", 0, -2)
    content += b"b\0torch.float32\0(1, 1)\0" + struct.pack("<f", 1.5)
    assert source_digest(state) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda state: np.add(state["a"], 1e-7, out=state["a"]),
        lambda state: state.update(a=state["a"].reshape(1, 2)),
        lambda state: state.update(c=state.pop("a")),
    ],
)
def test_the_digest_changes_with_the_state(change):
    state = {"a": np.float32([1, 2]), "b": np.zeros(1)}
    before = source_digest(state)
    change(state)
    assert source_digest(state) != before


def test_the_dense_layout_is_plain_safetensors_with_exact_zeros(artifacts, sparse_model):
    tensors, metadata = raw(artifacts["dense"])
    assert tensors.keys() == sparse_model.state_dict().keys()
    for name, weight in prunable_parameters(sparse_model).items():
        np.testing.assert_array_equal(tensors[name], weight.detach().numpy())
    assert metadata["framework"] == "sparsify"
    assert metadata["format_version"] == "1"
    assert metadata["layout"] == "dense"


def test_the_bitmask_layout_stores_nonzeros_bits_and_shape(artifacts, sparse_model):
    tensors, metadata = raw(artifacts["bitmask"])
    assert metadata["layout"] == "bitmask"
    for name, parameter in prunable_parameters(sparse_model).items():
        weight = parameter.detach().numpy()
        bits = np.unpackbits(tensors[f"{name}.bitmask"], bitorder="little")[: weight.size]
        np.testing.assert_array_equal(bits.reshape(weight.shape), weight != 0)
        np.testing.assert_array_equal(tensors[f"{name}.compressed"], weight[weight != 0])
        assert tuple(tensors[f"{name}.shape"]) == weight.shape
        assert name not in tensors


def test_the_bitmask_layout_is_as_small_as_its_law(artifacts, sparse_model):
    dense, bitmask = (sum(t.nbytes for t in raw(artifacts[n])[0].values()) for n in OURS[:2])
    saved = 0
    for weight in prunable_parameters(sparse_model).values():
        packed = 4 * int(weight.count_nonzero()) + (weight.numel() + 7) // 8 + 8 * weight.dim()
        saved += 4 * weight.numel() - packed
    assert dense - bitmask == saved


def test_tensors_without_zeros_stay_dense(tmp_path):
    model = linear()
    model.weight.data.fill_(1.0)
    save_model(model, tmp_path / "m.safetensors", layout="bitmask")
    assert raw(tmp_path / "m.safetensors")[0].keys() == {"weight", "bias"}


@pytest.mark.parametrize("layout", ["dense", "bitmask", "coded"])
def test_negative_zeros_are_stored_as_zeros(tmp_path, layout):
    model = linear()
    model.weight.data[:, ::2] = -0.0
    save_model(model, tmp_path / "m.safetensors", layout=layout)
    artifact = load_artifact(tmp_path / "m.safetensors")
    assert not torch.signbit(artifact.state["weight"][:, ::2]).any()
    assert artifact.metadata["source_digest"] == source_digest(artifact.arrays)
    assert float(artifact.metadata["sparsity"]) == 0.5


@pytest.mark.parametrize("layout", ["dense", "bitmask", "coded"])
def test_nan_and_infinities_survive(tmp_path, layout):
    model = linear()
    model.weight.data[0, :4] = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0])
    save_model(model, tmp_path / "m.safetensors", layout=layout)
    restored = load_model(tmp_path / "m.safetensors", trust=True).weight
    assert restored.detach().numpy().tobytes() == model.weight.detach().numpy().tobytes()


def test_front_end_recipe_and_options_travel(tmp_path):
    recipe = Recipe(front_end=FrontEnd(preset="wespeaker", sample_rate=8000), target_sparsity=0.75)
    save_model(linear(bias=False), tmp_path / "m.safetensors", recipe)
    artifact = load_artifact(tmp_path / "m.safetensors")
    assert artifact.recipe == recipe
    assert artifact.front_end == recipe.front_end
    options = {"in_features": 12, "out_features": 9, "bias": False}
    assert artifact.architecture == Architecture("torch.nn:Linear", options)


def test_a_network_of_other_features_is_saved_with_them(tmp_path):
    for bins in (40, 4):
        model = build_model("resnet18", channels=2, feature_dim=bins)
        if bins < 8:
            with pytest.raises(SparsifyError, match="feature_dim"):
                save_model(model, tmp_path / "model.safetensors")
        else:
            save_model(model, tmp_path / "model.safetensors")
            assert load_artifact(tmp_path / "model.safetensors").front_end.num_mel_bins == bins
    save_model(build_model("redimnet2-b0", channels=4), tmp_path / "model.safetensors")
    assert load_artifact(tmp_path / "model.safetensors").front_end.num_mel_bins == 72


def test_protected_parameters_do_not_count(tmp_path, sparse_model):
    recipe = Recipe(model=ModelSection(ignore=("layer1.*", "linear.*")))
    save_model(sparse_model, tmp_path / "m.safetensors", recipe)
    artifact = load_artifact(tmp_path / "m.safetensors")
    table = weights_table(artifact)
    assert not any(layer.name.startswith(("layer1.", "linear.")) for layer in table.prunable)
    assert table == sparsity_table(sparse_model, recipe.model.ignore)
    assert float(artifact.metadata["sparsity"]) == table.sparsity


@pytest.mark.parametrize("nesting", [None, "state_dict", "model", "model_state_dict"])
def test_state_dicts_of_others_are_read(tmp_path, nesting):
    state = {
        "conv.weight": torch.tensor([[0.0, 1.0] * 40]),
        "small.weight": torch.zeros(8, 8),
        "bn.running_mean": torch.zeros(4),
        "bn.num_batches_tracked": torch.tensor(3),
        "bias": torch.ones(3),
    }
    torch.save({nesting: state, "epoch": 3} if nesting else state, tmp_path / "m.pt")
    artifact = load_artifact(tmp_path / "m.pt")
    assert artifact.format.name == "pt"
    assert artifact.architecture is None
    table = weights_table(artifact)
    assert [layer.name for layer in table.layers] == ["conv.weight", "small.weight", "bias"]
    assert [layer.name for layer in table.prunable] == ["conv.weight"]
    assert (table.sparsity, table.parameters, table.nonzero) == (0.5, 80 + 64 + 3, 40 + 3)
    with pytest.raises(SparsifyError, match=r"m\.pt.*which network.*save_model"):
        artifact.build()


def test_safetensors_of_others_are_read(tmp_path):
    tensors = {"w": torch.eye(10), "w.shape": torch.tensor([10.0])}
    metadata = {"architecture": "not ours", "layout": "odd"}
    safetensors.torch.save_file(tensors, tmp_path / "m.safetensors", metadata)
    artifact = load_artifact(tmp_path / "m.safetensors")
    assert artifact.state.keys() == tensors.keys()
    assert artifact.layout == "dense"
    assert weights_table(artifact).sparsity == 0.9


def test_onnx_of_others_shows_what_uses_a_tensor(tmp_path):
    weight = np.eye(10, dtype=np.float32)
    initializers = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.array([-1], dtype=np.int64), "axes"),
        helper.make_tensor("half", TensorProto.BFLOAT16, [10, 10], np.ones(100)),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Cast", ["half"], ["unused"], to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 10]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    artifact = load_artifact(tmp_path / "m.onnx")
    first, second = weights_table(artifact).layers
    assert (first.name, first.type, first.nonzero, first.prunable) == ("w", "MatMul", 10, True)
    assert (second.name, second.type, second.nonzero) == ("half", "Cast", 100)


@pytest.mark.parametrize("name", ["dense", "bitmask", "pt", "onnx"])
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_files_are_one_sentence(artifacts, tmp_path, name, share):
    content = artifacts[name].read_bytes()
    path = tmp_path / artifacts[name].name
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(SparsifyError, match=path.name) as caught:
        load_artifact(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".onnx"])
def test_files_of_another_kind_are_one_sentence(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    path.write_text("a text that is no model at all, however long it is" * 10)
    with pytest.raises(SparsifyError, match=r"damaged or not a \.|not made by torch\.save"):
        load_artifact(path)


def test_a_bitmask_that_contradicts_itself_is_refused(artifacts, tmp_path):
    tensors, metadata = raw(artifacts["bitmask"])
    name = "linear.weight.bitmask"
    tensors[name][0] ^= np.uint8(1)  # one nonzero more or fewer than are stored
    safetensors.numpy.save_file(tensors, tmp_path / "m.safetensors", metadata)
    with pytest.raises(SparsifyError, match=name.removesuffix(".bitmask")):
        load_artifact(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": "2"}, "format version 2: update sparsify"),
        ({"format_version": "one"}, "damaged metadata"),
        ({"architecture": "{"}, "damaged metadata"),
        ({"architecture": '{"title": "x"}'}, "damaged metadata"),
        ({"front_end": '{"window": "Hann"}'}, "unknown key 'window'"),
    ],
)
def test_damaged_metadata_is_one_sentence(artifacts, tmp_path, changes, message):
    tensors, metadata = raw(artifacts["dense"])
    safetensors.numpy.save_file(tensors, tmp_path / "m.safetensors", unsealed(metadata) | changes)
    with pytest.raises(SparsifyError, match=message):
        load_artifact(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("linear.weight"),
        lambda state: state.update({"linear.weight": np.zeros((1, 2), np.float32)}),
        lambda state: state.update({"linear.extra": np.zeros(2, np.float32)}),
    ],
)
def test_tensors_that_do_not_fit_the_architecture_are_named(artifacts, tmp_path, change):
    tensors, metadata = raw(artifacts["dense"])
    change(tensors)
    safetensors.numpy.save_file(tensors, tmp_path / "m.safetensors", unsealed(metadata))
    with pytest.raises(SparsifyError, match=r"'linear\."):
        load_model(tmp_path / "m.safetensors")


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.txt").write_text("")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    for name, message in (
        ("nothing.onnx", "no such file"),
        ("model.txt", "is not a model"),
        (".", "not a run directory"),
        ("list.pt", "state dict"),
        ("numbers.pt", "state dict"),
    ):
        with pytest.raises(SparsifyError, match=message):
            load_artifact(tmp_path / name)


def test_saving_needs_a_writable_safetensors_file(tmp_path):
    model = linear()
    for path, message in (
        (tmp_path / "missing" / "m.safetensors", "create the folder"),
        (tmp_path / "m.bin", r"must end in \.safetensors"),
    ):
        with pytest.raises(SparsifyError, match=message):
            save_model(model, path)
    with pytest.raises(SparsifyError, match="must be JSON values"):
        save_model(linear(dtype=torch.float64), tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_tied_weights_and_strided_tensors_are_stored(tmp_path):
    model = linear()
    model.weight.data = torch.randn(12, 9).t()
    model.register_buffer("tied", model.weight.data)
    save_model(model, tmp_path / "m.safetensors")
    state = load_artifact(tmp_path / "m.safetensors").state
    assert torch.equal(state["weight"], model.weight)
    assert torch.equal(state["tied"], model.weight)


def test_the_same_model_gives_the_same_file(artifacts, tmp_path):
    for layout in ("dense", "bitmask", "coded"):
        recipe = load_artifact(artifacts["run"]).recipe
        save_model(load_model(artifacts["run"]), tmp_path / "m.safetensors", recipe, layout=layout)
        assert (tmp_path / "m.safetensors").read_bytes() == artifacts[layout].read_bytes()


def test_metadata_in_any_script_survive(tmp_path):
    recipe = Recipe(name='λ "größer"\n语音')
    save_model(linear(), tmp_path / "m.safetensors", recipe)
    assert load_artifact(tmp_path / "m.safetensors").recipe == recipe


@pytest.mark.parametrize("rows", [False, True])
def test_sparse_and_constant_onnx_weights_are_counted(tmp_path, rows):
    weight = np.zeros((10, 10), dtype=np.float32)
    weight[[0, 4, 9], [1, 4, 0]] = [1.0, -2.0, 3.0]
    where = np.argwhere(weight) if rows else np.flatnonzero(weight)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(weight[weight != 0], "w"),
        numpy_helper.from_array(where.astype(np.int64), "indices"),
        [10, 10],
    )
    constant = numpy_helper.from_array(np.eye(10, dtype=np.float32), "value")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=constant),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "c"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 10]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], sparse_initializer=[sparse])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    artifact = load_artifact(tmp_path / "m.onnx")
    np.testing.assert_array_equal(artifact.state["w"].numpy(), weight)
    counts = {layer.name: layer.nonzero for layer in weights_table(artifact).layers}
    assert counts == {"w": 3, "c": 10}


def test_a_file_without_weights_is_refused(tmp_path):
    torch.save({"steps": torch.tensor(3)}, tmp_path / "m.pt")
    with pytest.raises(SparsifyError, match="no float weights"):
        weights_table(load_artifact(tmp_path / "m.pt"))


def test_unusual_tensors_are_made_plain_or_refused(tmp_path):
    dense = torch.eye(12)
    torch.save({"w": dense.to_sparse(), "v": dense.to(torch.float8_e4m3fn)}, tmp_path / "m.pt")
    table = weights_table(load_artifact(tmp_path / "m.pt"))
    assert [layer.nonzero for layer in table.layers] == [12, 12]
    torch.save({"w": torch.empty(12, 12, device="meta")}, tmp_path / "meta.pt")
    with pytest.raises(SparsifyError, match="without values"):
        load_artifact(tmp_path / "meta.pt")


@pytest.mark.parametrize("change", ["future: {a: 1}", "model: {ignore: [nothing.*]}"])
def test_a_network_is_built_whatever_its_recipe_says(artifacts, tmp_path, change):
    """One of a later version may say what this one does not know."""
    given = load_artifact(artifacts["dense"])
    metadata = given.metadata | {"recipe": change}
    write_tensors(tmp_path / "m.safetensors", given.arrays, metadata, "dense", [])
    state = load_model(tmp_path / "m.safetensors").state_dict()
    assert source_digest(arrays_of(state)) == source_digest(given.arrays)
    with pytest.raises(SparsifyError, match=r"'future'|'nothing\.\*'"):
        weights_table(load_artifact(tmp_path / "m.safetensors"))


class Odd(nn.Linear):
    """Has a buffer of some type."""

    def __init__(self, kind):
        super().__init__(8, 8)
        self.register_buffer("odd", torch.zeros(3, dtype=getattr(torch, kind)))


@pytest.mark.parametrize("kind", ["complex32", "complex128"])
@pytest.mark.parametrize("layout", ["dense", "bitmask", "coded"])
def test_types_that_are_not_stored_are_refused(kind, layout, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "odd_networks", SimpleNamespace(Odd=Odd))
    model = build_model("odd_networks:Odd", kind=kind)
    with pytest.raises(SparsifyError, match=r"tensor 'odd' of type .* cannot be"):
        save_model(model, tmp_path / "m.safetensors", layout=layout)
    assert not [*tmp_path.iterdir()]
