"""Two networks of one architecture and of other widths, side by side."""

import json

import pytest
import torch
from click.testing import CliRunner

from sparsify import build_model, save_model
from sparsify.artifact.loading import load_artifact
from sparsify.cli import display
from sparsify.cli.main import main
from sparsify.exporters.export import export_artifact
from sparsify.exporters.sizes import resizing

BLOCKS = [1, 1, 1, 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`wide` and `wider`, `shrunk` and the graph `shrunk.onnx` of `wide`, and another network."""
    folder = tmp_path_factory.mktemp("sizes")
    wide = build_model("resnet18", channels=4, embedding_dim=8, blocks=BLOCKS)
    with torch.no_grad():
        block = wide.layer1[0]
        for each in (block.conv1.weight, block.bn1.weight, block.bn1.bias):
            each[1:3] = 0
    models = {
        "wide": wide,
        "wider": build_model("resnet18", channels=6, embedding_dim=8, blocks=BLOCKS),
        "other": build_model("ecapa-tdnn", channels=8, aggregation_channels=8),
    }
    for name, model in models.items():
        save_model(model, folder / f"{name}.safetensors")
    artifact = load_artifact(folder / "wide.safetensors")
    export_artifact(artifact, folder / "shrunk.safetensors", "safetensors", shrink=True)
    export_artifact(artifact, folder / "shrunk.onnx", "onnx", shrink=True)
    return folder


def compared(folder, name, other):
    artifacts = [load_artifact(folder / each) for each in (name, other)]
    return resizing(*artifacts, prunable=True)


@pytest.mark.parametrize("suffix", ["safetensors", "onnx"])
def test_a_shrunk_network_beside_what_it_was_made_of(folder, suffix):
    found = compared(folder, f"shrunk.{suffix}", "wide.safetensors")
    assert (found.shrunk_from_other, found.shrunk_into_other) == (True, False)
    layers = {each.name: each for each in found.layers if each.shape != each.other_shape}
    made, reads = layers["layer1.0.conv1.weight"], layers["layer1.0.conv2.weight"]
    assert layers.keys() == {made.name, reads.name}
    assert (made.shape, made.other_shape) == ((2, 4, 3, 3), (4, 4, 3, 3))
    assert (reads.shape, reads.other_shape) == ((4, 2, 3, 3), (4, 4, 3, 3))
    assert found.other.channels - found.size.channels == 2
    assert found.other.parameters - found.size.parameters == 2 * (36 + 36 + 2)  # and the norm's
    positions = made.size.multiply_adds / made.size.parameters
    saved = found.other.multiply_adds - found.size.multiply_adds
    assert saved == 2 * (36 + 36) * positions
    assert found.bytes == (folder / f"shrunk.{suffix}").stat().st_size


def test_the_other_way_round_and_other_widths(folder):
    found = compared(folder, "wide.safetensors", "shrunk.safetensors")
    assert (found.shrunk_from_other, found.shrunk_into_other) == (False, True)
    found = compared(folder, "wide.safetensors", "wider.safetensors")
    assert not found.shrunk_from_other
    assert not found.shrunk_into_other
    assert all(each.size.channels <= each.other.channels for each in found.layers)


def test_the_same_shapes_and_other_networks_have_no_sizes_to_compare(folder):
    assert compared(folder, "wide.safetensors", "wide.safetensors") is None
    assert compared(folder, "wide.safetensors", "other.safetensors") is None


def test_the_command_shows_what_went(folder, monkeypatch):
    arguments = [str(folder / "shrunk.onnx"), "--compare", str(folder / "wide.safetensors")]
    for width in (60, 120):
        monkeypatch.setattr(display.out, "width", width)
        shown = CliRunner().invoke(main, ["inspect", *arguments]).stdout
        assert "4 → 2" in shown
        assert "without its dead channels" in shown
        assert max(map(len, shown.partition("\n\n")[0].splitlines())) <= width
    printed = CliRunner().invoke(main, ["inspect", *arguments, "--json"]).stdout
    sizes = json.loads(printed)["compare"]["sizes"]
    assert sizes["shrunk_from_other"]
    assert sizes["other_parameters"] - sizes["parameters"] == 148
