import copy
import io
import json
import sys

import numpy as np
import onnx
import pytest
import safetensors.numpy
import soundfile as sf
import torch
from click.testing import CliRunner
from onnx import numpy_helper
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from sparsify.artifact.saving import save_model
from sparsify.cli import display, inspect_display, tables
from sparsify.cli.main import main
from sparsify.models.registry import build_model
from sparsify.texts import shortened

KEYS = {"path", "format", "sparsity", "global_sparsity", "parameters", "nonzero", "bytes", "layers"}
KEYS |= {"multiply_adds", "mac_sparsity"}
LAYER_KEYS = {"name", "type", "shape", "parameters", "nonzero", "sparsity", "prunable"}
LAYER_KEYS |= {"multiply_adds", "mac_sparsity"}


def inspect(*arguments):
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)])


def inspect_json(*arguments):
    result = inspect(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def parameters_of(name, path):
    """The parameters in a file by name, read without our code."""
    if name == "onnx":
        tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    elif name == "pt":
        tensors = {k: v.numpy() for k, v in torch.load(path, weights_only=True).items()}
    else:
        file = path / "model.safetensors" if name == "run" else path
        tensors = safetensors.numpy.load_file(file)
        for key in [key for key in tensors if key.endswith(".bitmask")]:
            base = key.removesuffix(".bitmask")
            shape = tensors.pop(f"{base}.shape")
            bits = np.unpackbits(tensors.pop(key), bitorder="little")[: shape.prod()]
            assert bits.sum() == tensors.pop(f"{base}.compressed").size
            tensors[base] = bits.reshape(shape)
    return {k: v for k, v in tensors.items() if k.endswith((".weight", ".bias"))}


@pytest.mark.parametrize("name", ["dense", "bitmask", "run", "pt", "onnx"])
def test_counts_agree_with_numpy(artifacts, name):
    printed = inspect_json(artifacts[name])
    expected = parameters_of(name, artifacts[name])
    prunable = {key: array for key, array in expected.items() if array.ndim > 1}
    assert printed.keys() >= KEYS
    assert {layer["name"] for layer in printed["layers"]} == expected.keys()
    for layer in printed["layers"]:
        array = expected[layer["name"]]
        assert layer.keys() == LAYER_KEYS
        assert layer["shape"] == list(array.shape)
        assert layer["parameters"] == array.size
        assert layer["nonzero"] == np.count_nonzero(array)
        assert layer["sparsity"] == pytest.approx(np.mean(array == 0))
        if array.size > 64:  # in a .pt file nothing smaller counts
            assert layer["prunable"] == (layer["name"] in prunable)
    assert printed["parameters"] == sum(array.size for array in expected.values())
    assert printed["nonzero"] == sum(np.count_nonzero(array) for array in expected.values())
    if name != "pt":
        zeros = sum(np.count_nonzero(array == 0) for array in prunable.values())
        share = zeros / sum(array.size for array in prunable.values())
        assert printed["sparsity"] == pytest.approx(share)


def test_file_and_format_are_told(artifacts):
    printed = inspect_json(artifacts["run"])
    file = artifacts["run"] / "model.safetensors"
    assert printed["path"] == str(file)
    assert printed["bytes"] == file.stat().st_size > printed["zipped_bytes"] > 0
    assert (printed["format"], printed["layout"]) == ("safetensors", "dense")
    assert inspect_json(artifacts["bitmask"])["layout"] == "bitmask"
    assert inspect_json(artifacts["onnx"])["format"] == "onnx"
    assert inspect_json(artifacts["pt"])["format"] == "pt"


def test_types_are_those_of_the_layers(artifacts):
    types = {layer["name"]: layer["type"] for layer in inspect_json(artifacts["dense"])["layers"]}
    assert types["layer1.conv.weight"] == "Conv1d"
    assert types["bn.weight"] == "BatchNorm1d"
    assert types["linear.bias"] == "Linear"


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("name", lambda layer: layer["name"]),
        ("size", lambda layer: -layer["parameters"]),
        ("sparsity", lambda layer: -layer["sparsity"]),
    ],
)
def test_layers_are_sorted(artifacts, sort, key):
    layers = inspect_json(artifacts["dense"], "--sort", sort)["layers"]
    assert layers == sorted(inspect_json(artifacts["dense"])["layers"], key=key)


def test_the_table_shows_prunable_layers_and_sums_up_the_others(artifacts, sparse_model):
    result = inspect(artifacts["dense"])
    assert result.exit_code == 0
    assert "layer1.conv.weight" in result.stdout
    assert "16×80×5" in result.stdout
    assert "layer1.conv.bias" not in result.stdout
    assert "96 others" in result.stdout
    total = sum(parameter.numel() for parameter in sparse_model.parameters())
    assert f"{total:,}" in result.stdout
    assert "layer1.conv.bias" in inspect(artifacts["dense"], "--all").stdout


@pytest.mark.parametrize("name", ["dense", "bitmask", "run", "onnx"])
def test_multiply_adds_are_told_for_two_seconds(artifacts, sparse_model, name):
    printed = inspect_json(artifacts[name])
    with FlopCounterMode(display=False) as operations, torch.no_grad():
        sparse_model(torch.zeros(1, 200, 80))
    assert printed["frames"] == 200
    assert printed["multiply_adds"] == operations.get_total_flops() / 2
    assert printed["multiply_adds"] == sum(layer["multiply_adds"] for layer in printed["layers"])
    zeros = sum(layer["multiply_adds"] * layer["mac_sparsity"] for layer in printed["layers"])
    assert printed["mac_sparsity"] == pytest.approx(zeros / printed["multiply_adds"])
    layers = {layer["name"]: layer for layer in printed["layers"]}
    first = layers["layer1.conv.weight"]
    assert first["multiply_adds"] == 200 * first["parameters"]
    assert first["mac_sparsity"] == pytest.approx(first["sparsity"])
    assert layers["layer1.conv.bias"]["multiply_adds"] == 0
    share = f"{printed['mac_sparsity']:.2%} of the {printed['multiply_adds'] / 1e6:,.1f} million"
    assert share in inspect(artifacts[name]).stdout


def test_multiply_adds_that_are_not_known_are_null_and_why(artifacts):
    printed = inspect_json(artifacts["pt"])
    assert printed["multiply_adds"] is printed["mac_sparsity"] is None
    assert all(layer["multiply_adds"] is None for layer in printed["layers"])
    assert "does not say which network it is" in printed["why_no_multiply_adds"]
    assert "Multiply-adds are not known: " in inspect(artifacts["pt"]).stdout


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_number_is_cut_where_there_is_little_room(artifacts, monkeypatch, width):
    monkeypatch.setattr(display.out, "width", width)
    printed = inspect_json(artifacts["dense"])
    lines = inspect(artifacts["dense"]).stdout.splitlines()
    table = lines[: lines.index("")]
    assert max(map(len, table)) <= width
    shown = "".join(table)
    for layer in printed["layers"]:
        if layer["prunable"]:
            name, least = layer["name"], 24 if width == 60 else len(layer["name"])
            cuts = [(n, head) for n in range(least, 60) for head in range(n)]
            assert any(shortened(name, *cut) in shown for cut in cuts)
            assert f"{layer['sparsity']:.2%}" in shown
            assert f"{layer['parameters']:,}" in shown
    assert "…" not in shown or width == 60
    assert "Multiply-adds" in shown


@pytest.fixture
def rounded(tmp_path):
    """A model of 13 prunable weights of which round(0.9 · 13) = 12 are zero: 92.3 %."""
    model = build_model("torch.nn:Linear", in_features=13, out_features=1)
    model.weight.data.zero_()[0, 0] = 1
    save_model(model, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        (["--min-sparsity", 0.9], 0),
        (["--max-sparsity", 0.9], 0),
        (["--min-sparsity", 0.9, "--max-sparsity", 0.9], 0),
        (["--min-sparsity", 0.97], 1),  # 12.61 zeros
        (["--max-sparsity", 0.88], 1),  # 11.44 zeros
        (["--min-sparsity", 1.2], 2),
        (["--max-sparsity", -0.1], 2),
    ],
)
def test_gates_decide_the_exit_code(rounded, gates, code):
    result = inspect(rounded, "--json", *gates)
    assert result.exit_code == code
    if code < 2:
        assert json.loads(result.stdout)["nonzero"] == 2
    if code == 1:
        assert f"{gates[0]} {gates[1]:.4%}" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_quiet_gate_says_its_verdict_in_one_line(rounded):
    bounds = ("--min-sparsity", 0.9, "--max-sparsity", 0.95)
    passed = inspect(rounded, "--quiet", *bounds)
    assert passed.stdout == (
        "Passed: the prunable sparsity 92.3077% is at least --min-sparsity 90.0000%;"
        " the prunable sparsity 92.3077% is at most --max-sparsity 95.0000%\n"
    )
    failed = inspect(rounded, "--quiet", "--min-sparsity", 0.98, "--max-sparsity", 0.95)
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr == (
        "Failed: the prunable sparsity 92.3077% is below --min-sparsity 98.0000%\n"
    )
    assert "Prunable" in inspect(rounded, "--quiet").stdout
    nearest = inspect(rounded, "--quiet", "--min-sparsity", 0.93).stdout
    assert nearest.endswith("is at least --min-sparsity 93.0000%, to the nearest weight\n")


def test_comparison_with_another_model(artifacts, sparse_model, tmp_path, refused, monkeypatch):
    model = copy.deepcopy(sparse_model)
    weight = model.layer1.conv.weight.data
    weight.view(-1)[:100] = 0  # some are zero already
    weight.view(-1)[100:200] = 1.0
    save_model(model, tmp_path / "other.safetensors")
    printed = inspect_json(tmp_path / "other.safetensors", "--compare", artifacts["onnx"])
    found = printed["compare"]
    assert found["path"] == str(artifacts["onnx"])
    assert found["left_out"] == []
    changed, *others = found["layers"]
    assert changed["name"] == "layer1.conv.weight"
    assert all(each["overlap"] == 1 and each["distance"] == 0 for each in others)
    new, old = weight.numpy(), sparse_model.layer1.conv.weight.detach().numpy()
    overlap = ((new != 0) & (old != 0)).sum() / ((new != 0) | (old != 0)).sum()
    assert changed["overlap"] == pytest.approx(overlap)
    assert changed["sparsity"] == pytest.approx(1 - np.count_nonzero(new) / new.size)
    assert changed["other_sparsity"] == pytest.approx(1 - np.count_nonzero(old) / old.size)
    distance = np.linalg.norm(new - old) / np.linalg.norm(old)
    assert changed["distance"] == pytest.approx(distance)
    assert 0.9 < found["overlap"] < 1

    for width in (60, 120):
        monkeypatch.setattr(display.out, "width", width)
        shown = inspect(tmp_path / "other.safetensors", "--compare", artifacts["run"]).stdout
        assert f"{overlap:.2%}" in shown
        assert max(map(len, shown.partition("\n\n")[0].splitlines())) <= width
    torch.save({"w": torch.ones(9, 9)}, tmp_path / "w.pt")
    refused(inspect(artifacts["run"], "--compare", tmp_path / "w.pt"), "no weight of the same name")
    refused(
        inspect(artifacts["run"], "--compare", __file__, "--sort", "name"), "--compare shows no"
    )


def test_the_gate_on_multiply_adds(artifacts, rounded, refused):
    share = 1 - json.loads(inspect(artifacts["run"], "--json").stdout)["mac_sparsity"]
    assert 0.1 < share < 0.3
    for threshold, code in ((0.3, 0), (0.1, 1)):
        result = inspect(artifacts["run"], "--json", "--max-macs", threshold)
        assert result.exit_code == code
        gate = {"name": "max_macs", "threshold": threshold, "value": pytest.approx(share)}
        assert json.loads(result.stdout)["gates"] == [gate | {"passed": not code}]
    assert f"{share:.4%} is above --max-macs 10.0000%" in result.stderr
    refused(inspect(rounded, "--max-macs", 0.5), "--max-macs: the multiply-adds of", "not known")


def test_a_model_without_prunable_weights_does_not_pass_as_sparse(tmp_path):
    torch.save({"bias": torch.zeros(100)}, tmp_path / "m.pt")
    assert inspect(tmp_path / "m.pt", "--min-sparsity", 0.1).exit_code == 1
    assert inspect(tmp_path / "m.pt", "--max-sparsity", 0).exit_code == 0


def test_bad_input_is_one_sentence(tmp_path):
    result = inspect(tmp_path / "missing.onnx", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "no such file" in result.stderr


def test_help_shows_an_example():
    assert "sparsify inspect run" in inspect("--help").stdout


def test_sensitivity_on_a_trial_list(artifacts, tmp_path):
    rng = np.random.default_rng(0)
    for name in "abcd":
        sf.write(tmp_path / f"{name}.wav", rng.normal(0, 0.1, 8000), 16000)
    (tmp_path / "trials.txt").write_text("1 a.wav b.wav\n1 c.wav d.wav\n0 a.wav c.wav\n")
    speech = ["--trials", tmp_path / "trials.txt", "--audio-root", tmp_path]
    printed = inspect_json(artifacts["run"], "--sensitivity", *speech, "--level", 0.95)
    sensitivity = printed["sensitivity"]
    assert sensitivity["utterances"] == 4
    assert sensitivity["trials"] == 3
    prunable = {layer["name"]: layer for layer in printed["layers"] if layer["prunable"]}
    assert [layer["name"] for layer in sensitivity["layers"]] == list(prunable)
    for layer in sensitivity["layers"]:
        assert layer["sparsity"] == prunable[layer["name"]]["sparsity"]
        (probe,) = layer["probes"]
        assert probe["sparsity"] == pytest.approx(
            max(0.95, layer["sparsity"]), abs=0.51 / layer["parameters"]
        )
    shown = inspect(
        artifacts["run"],
        "--sensitivity",
        *speech,
        "--level",
        0.95,
        "--sort",
        "sensitivity",
        "--report",
        tmp_path / "page.html",
    )
    page = (tmp_path / "page.html").read_text()
    assert all(f'data-value="{layer["name"]}"' in page for layer in sensitivity["layers"])
    assert shown.exit_code == 0, shown.output
    least = min(sensitivity["layers"], key=lambda layer: layer["probes"][0]["cosine"])
    assert shown.stdout.splitlines()[1].startswith(least["name"])
    assert "EER at 95%" in shown.stdout
    assert "page.html" in shown.stdout.split("Wrote")[1]


def test_sensitivity_finds_utterances_as_evaluate_does(artifacts, tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        sf.write(tmp_path / f"{name}.flac", rng.normal(0, 0.1, 8000), 16000)
    trials = tmp_path / "trials.txt"
    speech = ["--trials", trials, "--audio-root", tmp_path, "--level", 0.95]
    trials.write_text("1 a b.wav\n0 a c\n")  # one name without its extension, one with another
    assert inspect_json(artifacts["run"], "--sensitivity", *speech)["sensitivity"]["trials"] == 2
    trials.write_text("1 a b\n0 a d\n")
    result = inspect(artifacts["run"], "--sensitivity", *speech)
    assert result.exit_code == 2
    assert "--audio-root must be the folder" in result.stderr


def test_sensitivity_options_belong_together(artifacts):
    for arguments, words in (
        (["--sensitivity", "--trials", __file__], "belong together"),
        (["--trials", __file__, "--audio-root", "b"], "only with --sensitivity"),
        (["--level", "0.9"], "--level has a meaning only with --sensitivity"),
        (["--utterances", "200"], "--utterances has a meaning only with --sensitivity"),
        (["--report", "page.html"], "--report has a meaning only with --sensitivity"),
        (["--sort", "sensitivity"], "needs --sensitivity"),
    ):
        result = inspect(artifacts["dense"], *arguments)
        assert result.exit_code == 2
        assert words in result.stderr


def test_names_of_tensors_are_shown_as_they_are(tmp_path):
    names = ["[/red]", "[bold]x[/]", "a:car:b", "\x1b[31mred", "nul\0", "\ud800"]
    torch.save({name: torch.ones(9, 9) for name in names}, tmp_path / "m.pt")
    shown = inspect(tmp_path / "m.pt").stdout
    for text in ("[/red]", "[bold]x[/]", "a:car:b", "?[31mred", "nul?"):
        assert text in shown
    assert "\x1b" not in shown
    layers = inspect_json(tmp_path / "m.pt")["layers"]
    assert [layer["name"] for layer in layers] == names


def test_the_entropy_is_shown_and_how_near_the_file_is(artifacts, sparse_model):
    """Independent of our code for masks, signs and exponents; mantissas count as they are."""
    bits = 0.0
    for tensor in sparse_model.state_dict().values():
        values = tensor.numpy().ravel()
        if values.dtype == np.float32:
            nonzeros = values[values != 0]
            mantissas = 23 if (np.frexp(nonzeros)[0] % 0.5).any() else 0
            bits += mantissas * nonzeros.size
            parts = (values != 0, np.signbit(nonzeros), np.frexp(nonzeros)[1])
        else:
            parts = (values,)
        for part in parts:
            counts = np.unique(part, return_counts=True)[1]
            bits -= (counts * np.log2(counts / max(1, part.size))).sum()
    for name in ("coded", "dense", "onnx"):
        entropy = inspect_json(artifacts[name])["entropy_bytes"]
        assert entropy == pytest.approx(bits / 8, rel=1e-3)
    printed = inspect_json(artifacts["coded"])
    more = printed["bytes"] / printed["entropy_bytes"] - 1
    shown = " ".join(inspect(artifacts["coded"]).stdout.split())
    assert f"the file is {more:.1%} larger" in shown


def test_an_entropy_that_zip_beats_is_not_shown(tmp_path):
    """The same row again and again: each value is as likely as another, but easily told."""
    weight = np.tile(np.linspace(1, 2, 64, dtype=np.float32), (64, 1))
    safetensors.numpy.save_file({"w": weight}, tmp_path / "m.safetensors")
    told = inspect_json(tmp_path / "m.safetensors")
    assert told["entropy_bytes"] > told["zipped_bytes"]
    assert "could be stored in" not in inspect(tmp_path / "m.safetensors").stdout


def test_dead_layers_and_the_result_stand_out(artifacts, monkeypatch):
    screen = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=160)
    for module in (display, inspect_display, tables):
        monkeypatch.setattr(module, "out", screen)
    assert inspect(artifacts["dense"]).exit_code == 0
    shown = screen.file.getvalue()
    red, bold = "\x1b[1;31m", "\x1b[1m"
    dead = [
        layer["name"]
        for layer in inspect_json(artifacts["dense"])["layers"]
        if layer["prunable"] and not layer["nonzero"]
    ]
    assert dead
    marked = {line.split()[0].removesuffix("\x1b[0m") for line in shown.split(red)[1:]}
    assert marked >= {*dead, "100.00%"}
    assert f"{bold}Prunable" in shown


@pytest.mark.parametrize("value", ["", "1"])
def test_there_are_no_colours_with_no_color(monkeypatch, value):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", value)
    assert (display._console(sys.stdout, stderr=False).color_system is None) == bool(value)


def test_values_beside_a_graph_are_part_of_its_size(tmp_path):
    weight = np.random.default_rng(0).normal(size=(80, 100)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["feats", "w"], ["embs"])],
        "g",
        [onnx.helper.make_tensor_value_info("feats", onnx.TensorProto.FLOAT, ["B", "T", 80])],
        [onnx.helper.make_tensor_value_info("embs", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    outside = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx", **outside)
    told = inspect_json(tmp_path / "m.onnx")
    files = [tmp_path / "m.onnx", tmp_path / "w.data"]
    assert told["bytes"] == sum(file.stat().st_size for file in files)
    assert told["zipped_bytes"] > 0.8 * weight.nbytes


def test_no_gate_passes_on_weights_that_are_no_numbers(tmp_path):
    weight = np.eye(20, dtype=np.float32)
    weight[3, 4] = np.nan
    safetensors.numpy.save_file({"w": weight}, tmp_path / "m.safetensors")
    result = inspect(tmp_path / "m.safetensors", "--min-sparsity", 0.5)
    assert result.exit_code == 1
    assert "'w' holds values that are no finite numbers, 1 of 400" in result.output


def test_other_widths_compare_whatever_their_network_is_called(artifacts, tmp_path):
    for name, model in (
        ("named", build_model("ecapa-tdnn-512")),
        ("told", build_model("ecapa-tdnn", channels=16, aggregation_channels=32)),
    ):
        save_model(model, tmp_path / f"{name}.safetensors")
    compared = inspect_json(
        tmp_path / "told.safetensors", "--compare", tmp_path / "named.safetensors"
    )
    assert compared["compare"]["sizes"] is not None
