"""Models without their dead channels, on disk."""

import json
import logging

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from sparsify import SparsifyError, load_model, save_model
from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.cli.main import main
from sparsify.exporters.export import export_artifact
from sparsify.exporters.shrink import shrunk
from sparsify.models.registry import Architecture, build_model
from sparsify.recipe.recipe import load_recipe
from sparsify.training.network_choice import network_assignments
from sparsify.training.starting_network import start_of, with_target_of_start

FEATS = 3 * torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    """A small ResNet, two of whose channels are dead in each of two layers that are added."""
    torch.manual_seed(0)
    model = build_model("resnet18", channels=4, embedding_dim=8)
    with torch.no_grad():
        for layer, norm in ((model.conv1, model.bn1), (model.layer1[0].conv2, model.layer1[0].bn2)):
            layer.weight[1:3] = 0
            norm.weight[1:3] = 0
            norm.bias[1:3] = 0
        model.layer1[1].conv2.weight[1] = 0
        model.layer1[1].bn2.weight[1] = 0
    return model.eval()


@pytest.fixture
def stored(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(model, path, load_recipe("quickstart"))
    return path


def export(path, output, **options):
    return export_artifact(load_artifact(path), output, "safetensors", shrink=True, **options)


def test_a_smaller_model_is_written_and_loads_by_itself(model, stored, tmp_path):
    output = tmp_path / "small.safetensors"
    report = export(stored, output)
    before, after = report.shrunk.before, report.shrunk.after
    assert after.channels == before.channels - 5
    assert after.parameters == weights_table(load_artifact(output)).parameters < before.parameters
    assert after.multiply_adds < 0.9 * before.multiply_adds
    assert report.dense_bytes > report.bytes
    small = load_artifact(output)
    assert small.metadata["shrunk_from"] == load_artifact(stored).metadata["source_digest"]
    assert small.metadata["source_digest"] != small.metadata["shrunk_from"]
    with torch.no_grad():
        torch.testing.assert_close(load_model(output)(FEATS), model(FEATS), rtol=0, atol=1e-5)


def test_it_is_the_same_in_fewer_digits_and_as_a_graph(stored, tmp_path):
    output = tmp_path / "small.safetensors"
    report = export(stored, output, precision="int8", layout="coded")
    assert report.rounding is not None
    metadata = load_artifact(output).metadata
    assert metadata["rounded_from"] != metadata["shrunk_from"] != metadata["source_digest"]
    graph = tmp_path / "small.onnx"
    artifact = load_artifact(stored)
    report = export_artifact(artifact, graph, "onnx", shrink=True)
    assert report.parity.passed
    with torch.no_grad():
        expected = load_model(stored)(FEATS)
        torch.testing.assert_close(load_model(graph)(FEATS), expected, rtol=0, atol=1e-5)


def test_training_goes_on_from_it(stored, tmp_path):
    output = tmp_path / "small.safetensors"
    export(stored, output)
    recipe = load_recipe("quickstart", network_assignments(None, str(output)))
    start = start_of(recipe)
    assert start.network.conv1.out_channels == 2
    with torch.no_grad():
        expected = load_model(output)(FEATS)
        torch.testing.assert_close(start.network.eval()(FEATS), expected, rtol=0, atol=0)


def test_what_becomes_of_it_has_to_be_said(stored, tmp_path):
    output = tmp_path / "small.safetensors"
    export(stored, output)
    start = network_assignments(None, str(output))
    with pytest.raises(SparsifyError, match="no zeros to keep: fine-tune it with --method dense"):
        with_target_of_start(load_recipe("quickstart", start))
    for said in ("method=dense", "target_sparsity=0.5"):
        recipe = load_recipe("quickstart", [*start, said])
        assert with_target_of_start(recipe) == recipe


def test_where_nothing_is_dead_a_warning_says_so(tmp_path, caplog):
    model = build_model("resnet18", channels=2, embedding_dim=8)
    with torch.no_grad():
        model.seg_1.weight[:, ::2] = 0
        for block in model.layer4:
            block.conv2.weight[:, :, 1] = 0
    save_model(model, tmp_path / "model.safetensors")
    artifact = load_artifact(tmp_path / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        same, shrinkage = shrunk(artifact)
    assert same is artifact
    assert shrinkage.before == shrinkage.after
    assert "no channel of" in caplog.text
    assert "methods.adabreg.group=output" in caplog.text


@pytest.mark.parametrize(
    ("widths", "what"),
    [
        ({"conv1.weight": [10**9, 1, 3, 3]}, "cannot become"),
        ({"conv1.weight": [0, 1, 3, 3]}, "cannot become"),
        ({"conv1.weight": "1"}, "cannot become"),
        ({"nothing.weight": [1]}, "do not fit"),
        ({"": [1]}, "do not fit"),
        ({"layer1.0.sum.first": "12"}, "text of 0 and 1"),
        ({"layer1.0.sum.third": "11"}, "first and a second"),
        ({"layer1.0.sum.first": "1" * 10**6}, "more than 65536 channels"),
        ({"bn1.weight": [2]}, "do not fit together in 'bn1'"),
        ({"layer1.0.sum.first": "111110"}, "do not fit together in 'layer1.0.sum'"),
    ],
)
def test_widths_that_do_not_fit_are_refused(widths, what, tmp_path):
    model = build_model("resnet18", channels=4, embedding_dim=8)
    if "bn1.weight" in widths:
        model.bn1.weight = nn.Parameter(torch.ones(2))
    model.architecture = Architecture("resnet18", model.architecture.options, widths)
    path = tmp_path / "hostile.safetensors"
    save_model(model, path)
    with pytest.raises(SparsifyError, match=f"hostile.safetensors'.*{what}"):
        load_model(path)


class Counting(nn.Module):
    """A user's network that has the number of its channels written down."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(80, 8, 3)
        self.last = nn.Linear(8, 4)

    def forward(self, feats):
        x = self.conv(feats.transpose(1, 2)).relu()
        return self.last(x.view(len(x), 4, 2, -1).flatten(1, 2).mean(2))


def test_a_network_that_counts_its_channels_is_refused(tmp_path):
    model = build_model(f"{__name__}:Counting")
    with torch.no_grad():
        model.conv.weight[3] = 0
        model.conv.bias[3] = 0
    save_model(model, tmp_path / "model.safetensors")
    artifact = load_artifact(tmp_path / "model.safetensors", trust=True)
    with pytest.raises(SparsifyError, match="cannot be shrunk: its code does not run with fewer"):
        shrunk(artifact)


class Recurrent(nn.Module):
    """A user's network with a layer that is not followed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(80, 8, 3)
        self.second = nn.Conv1d(8, 6, 3)
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.last = nn.Linear(5, 4)

    def forward(self, feats):
        x = self.second(self.first(feats.transpose(1, 2)).relu()).relu()
        return self.last(self.gru(x.transpose(1, 2))[0].mean(1))


def test_what_is_kept_and_why_is_said_once(tmp_path, caplog):
    model = build_model(f"{__name__}:Recurrent")
    with torch.no_grad():
        for layer in (model.first, model.second):
            layer.weight[2:4] = 0
            layer.bias[2:4] = 0
    save_model(model, tmp_path / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        small, shrinkage = shrunk(load_artifact(tmp_path / "model.safetensors", trust=True))
    assert small.state["first.weight"].shape[0] == 6
    assert shrinkage.kept == {"'GRU' in 'gru'": {"second": 2}}
    (said,) = caplog.messages
    assert said.endswith("since 'GRU' in 'gru' cannot be followed with fewer: 2 of 'second'")


def test_the_command_says_what_went(stored, tmp_path):
    output = tmp_path / "small.safetensors"
    arguments = ["export", str(stored), "--format", "safetensors", "--output", str(output)]
    result = CliRunner().invoke(main, [*arguments, "--shrink", "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["shrunk"]["after"].keys() == {"channels", "parameters", "multiply_adds"}
    assert content["shrunk"]["kept"] == {}
    assert content["shrunk"]["before"]["parameters"] > content["shrunk"]["after"]["parameters"]
    shown = CliRunner().invoke(main, [*arguments, "--shrink", "--force"])
    assert "Left are" in shown.output
