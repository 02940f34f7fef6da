"""The front end in a graph computes what torchaudio computes, and files with it are models."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile as sf
import torch
import torchaudio
from click.testing import CliRunner
from onnx import helper

from sparsify.audio.features import Filterbank, features_of, input_shape
from sparsify.cli.main import main
from sparsify.errors import SparsifyError
from sparsify.exporters.onnx.front_end import prepend_front_end
from sparsify.exporters.parity import waveform_batches
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.recipe.sections import FrontEnd, OwnFrontEnd
from sparsify.verification.embedding import Recording, embed


def log_mel(front_end):
    """From waveforms to features, in onnxruntime."""
    shape, kind = ["B", "T", front_end.num_mel_bins], onnx.TensorProto.FLOAT
    feats, out = (helper.make_tensor_value_info(name, kind, shape) for name in ("feats", "out"))
    node = helper.make_node("Identity", ["feats"], ["out"])
    graph = helper.make_graph([node], "front end", [feats], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    prepend_front_end(model, front_end)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda waveforms: session.run(None, {"waveform": waveforms})[0]


def waveforms(rate):
    yield from waveform_batches(rate)
    rng = np.random.default_rng(1)
    for batch, samples in ((1, rate // 40), (2, rate // 40 + 1), (1, rate // 4 + 79)):
        yield rng.normal(scale=0.1, size=(batch, samples)).astype(np.float32)
    yield np.full((1, rate // 2), 0.25, dtype=np.float32)


def kaldi(waveform, front_end):
    settings = (
        {"high_freq": -400.0, "snip_edges": False, "window_type": "povey"}
        if front_end.preset == "sherpa"
        else {"high_freq": 0.0, "snip_edges": True, "window_type": "hamming"}
    )
    features = torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(waveform)[None] * 2**15,
        num_mel_bins=front_end.num_mel_bins,
        sample_frequency=front_end.sample_rate,
        dither=0.0,
        **settings,
    )
    return (features - features.mean(0)).numpy()


@pytest.mark.parametrize("bins", [80, 24])
@pytest.mark.parametrize("rate", [8000, 11025, 16000])
@pytest.mark.parametrize("preset", ["sherpa", "wespeaker"])
def test_log_mel_is_that_of_torchaudio(preset, rate, bins):
    """Of any length and batch, of frames of even and odd length, of silence and of a constant."""
    front_end = FrontEnd(preset=preset, sample_rate=rate, num_mel_bins=bins)
    compute = log_mel(front_end)
    for batch in waveforms(rate):
        expected = np.stack([kaldi(waveform, front_end) for waveform in batch])
        np.testing.assert_allclose(compute(batch), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("preset", "rate"), [("speechbrain", 8000), ("speechbrain", 16000), ("tfmel", 11025)]
)
def test_other_features_too(preset, rate):
    front_end = FrontEnd(preset=preset, sample_rate=rate)
    compute, filterbank = log_mel(front_end), Filterbank(front_end)
    for batch in waveforms(rate):
        expected = filterbank(torch.from_numpy(batch)).numpy()
        np.testing.assert_allclose(compute(batch), expected, rtol=0, atol=2e-3)  # decibels


def test_of_real_speech_as_near_as_float32_comes(speech_mini):
    """Where a recording has no treble, torchaudio itself misses its exact values by a tenth."""
    files = sorted(path for path in (speech_mini / "test").rglob("*") if path.is_file())[:8]
    compute, far, values = log_mel(FrontEnd()), 0, 0
    for file in files:
        samples = sf.read(file, dtype="float32")[0]
        differences = np.abs(compute(samples[None])[0] - kaldi(samples, FrontEnd()))
        far, values = far + (differences > 1e-3).sum(), values + differences.size
    assert far <= 1e-4 * values


@pytest.mark.parametrize("preset", ["sherpa", "wespeaker", "speechbrain", "tfmel"])
@pytest.mark.parametrize("frames", [4, 57])
def test_as_many_samples_as_frames_ask_for(preset, frames):
    front_end = OwnFrontEnd(preset=preset)
    samples = torch.zeros(1, *input_shape(front_end, frames))
    assert Filterbank(front_end)(samples).shape[1] == frames
    assert input_shape(FrontEnd(preset=preset), frames) == (frames, 80)


def test_what_is_too_short_is_refused():
    with pytest.raises(SparsifyError, match="399 samples are shorter than one frame of 400"):
        features_of(OwnFrontEnd())(np.zeros(399, dtype=np.float32))


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def from_samples(artifacts, known_graph, tmp_path):
    """The report of an export with its front end, and the file."""
    output = tmp_path / "from-samples.onnx"
    arguments = ("--format", "onnx", "--with-frontend", "--output", output, "--json")
    result = run("export", artifacts["dense"], *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), output


def test_an_export_takes_samples_and_says_so(from_samples, artifacts):
    report, file = from_samples
    assert report["parity"]["passed"]
    added = report["bytes"] - artifacts["onnx"].stat().st_size
    assert 300_000 < added < 500_000
    (model_input,) = onnx.load(file).graph.input
    assert model_input.name == "waveform"
    properties = {each.key: each.value for each in onnx.load(file).metadata_props}
    assert properties["sparsify.input"] == "waveform"
    assert json.loads(properties["sparsify.front_end"])["preset"] == "sherpa"
    assert "framework" not in properties  # sherpa-onnx would give it features
    inspected, source = (
        json.loads(run("inspect", path, "--json").stdout) for path in (file, artifacts["run"])
    )
    assert inspected["parameters"] == source["parameters"]
    assert (inspected["input"], source["input"]) == ("waveform", "features")
    assert "takes samples" in run("inspect", file).stdout


def test_such_a_file_embeds_like_the_model(from_samples, artifacts):
    """Also a copy that has lost its metadata."""
    _, file = from_samples
    rng = np.random.default_rng(0)
    speech = [rng.normal(scale=0.1, size=n).astype(np.float32) for n in (4000, 20123)]
    recordings = [Recording(f"{n}", lambda each=each: each) for n, each in enumerate(speech)]
    copy = file.with_name("copy.onnx")
    bare = onnx.load(file)
    del bare.metadata_props[:]
    onnx.save(bare, copy)
    plain, *others = (load_speaker_model(path) for path in (artifacts["run"], file, copy))
    expected = embed(plain.embedder, recordings, plain.front_end)
    for model in others:
        found = embed(model.embedder, recordings, model.front_end)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert others[0].digest == plain.digest
    with pytest.raises(SparsifyError, match="shorter than one frame"):
        embed(plain.embedder, [Recording("x", lambda: speech[0][:100])], others[0].front_end)


def test_such_a_file_is_measured(from_samples, artifacts, short_benchmark):
    result = run("benchmark", from_samples[1], artifacts["onnx"], "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert {row["path"] for row in rows} == {str(from_samples[1]), str(artifacts["onnx"])}


def test_other_formats_hold_no_front_end(artifacts, tmp_path):
    output = tmp_path / "model-c"
    arguments = ("--format", "native", "--with-frontend", "--output", output)
    result = run("export", artifacts["run"], *arguments)
    assert result.exit_code == 2
    assert "native holds no front end: leave out --with-frontend or export onnx" in result.stderr
