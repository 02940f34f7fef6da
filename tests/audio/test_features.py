import numpy as np
import pytest
import scipy.signal
import torch
from safetensors.torch import load_file
from torchaudio.compliance.kaldi import fbank

from sparsify.audio import features
from sparsify.audio.features import Filterbank
from sparsify.audio.frames import frame_count
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import FrontEnd

KALDI = {
    "sherpa": {"window_type": "povey", "high_freq": -400, "snip_edges": False},
    "wespeaker": {"window_type": "hamming", "high_freq": 0, "snip_edges": True},
}


def reference(waveform, front_end):
    """Log-mel features by torchaudio, `(T, bins)`, mean subtracted."""
    features = fbank(
        waveform[None] * 2**15,
        num_mel_bins=front_end.num_mel_bins,
        sample_frequency=front_end.sample_rate,
        dither=0,
        **KALDI[front_end.preset],
    )
    return features - features.mean(0)


def speechlike(samples, batch=1):
    """Noise whose level changes over six orders of magnitude."""
    generator = torch.Generator().manual_seed(samples)
    level = 10 ** torch.linspace(-6, -1, samples)
    return level * torch.randn(batch, samples, generator=generator)


@pytest.mark.parametrize("preset", ["sherpa", "wespeaker"])
@pytest.mark.parametrize("samples", [400, 401, 479, 480, 559, 560, 639, 16000, 23987])
def test_equals_kaldi(preset, samples):
    front_end = FrontEnd(preset=preset)
    waveform = speechlike(samples)
    expected = reference(waveform[0], front_end)
    torch.testing.assert_close(Filterbank(front_end)(waveform)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("preset", ["sherpa", "wespeaker"])
def test_a_long_recording_is_taken_in_parts(preset, monkeypatch):
    monkeypatch.setattr(features, "_FRAMES_AT_ONCE", 7)
    test_equals_kaldi(preset, 16000)


@pytest.mark.parametrize("preset", ["sherpa", "wespeaker"])
@pytest.mark.parametrize(("rate", "bins"), [(8000, 40), (16000, 64), (44100, 80)])
def test_equals_kaldi_at_other_rates(preset, rate, bins):
    front_end = FrontEnd(preset=preset, sample_rate=rate, num_mel_bins=bins)
    waveform = speechlike(rate // 2)
    expected = reference(waveform[0], front_end)
    torch.testing.assert_close(Filterbank(front_end)(waveform)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [400, 4000, 4081])
def test_tfmel_is_that_of_its_definition(samples):
    """A transform written out, in double precision, with scipy's window."""
    wave = speechlike(samples)[0].double().numpy()
    level = (wave - wave.mean()) / (wave.std() + 1e-8)
    before = np.concatenate([level[1:2], level])  # mirrored at the start
    signal = np.pad(before[1:] - 0.97 * before[:-1], 80)
    angles = 2 * np.pi * np.outer(np.arange(400), np.arange(256)) / 512
    mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)  # noqa: E731
    edges = np.linspace(mel(20), mel(7600), 74)
    bins = mel(np.linspace(0, 8000, 256))
    rows = []
    for start in range(0, len(signal) - 399, 160):
        frame = signal[start : start + 400] * scipy.signal.windows.hamming(400)
        power = (frame @ np.cos(angles)) ** 2 + (frame @ np.sin(angles)) ** 2
        power = np.clip(power, 1e-8, 1e8)
        row = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            weights = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle))
            weights[0] = 0
            row.append(np.clip(power @ np.maximum(weights, 0), 1e-8, 1e8) + 1e-8)
        rows.append(np.log(row))
    expected = np.array(rows) - np.mean(rows, axis=0)
    front_end = FrontEnd(preset="tfmel", num_mel_bins=72)
    features = Filterbank(front_end).features(wave.astype(np.float32))
    np.testing.assert_allclose(features, expected, atol=2e-3)


@pytest.mark.parametrize("name", ["short", "quiet", "loud"])
def test_equals_resemblyzer(own_golden, name):
    tensors = load_file(own_golden / "resemblyzer_h8.safetensors")
    waveform = tensors[f"{name}.waveform"] / 2**15
    features = Filterbank(FrontEnd(preset="resemblyzer", num_mel_bins=40))(waveform[None])[0]
    torch.testing.assert_close(features, tensors[f"{name}.features"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("preset", ["sherpa", "wespeaker", "speechbrain", "tfmel", "resemblyzer"])
def test_a_batch_equals_its_members(preset):
    filterbank = Filterbank(FrontEnd(preset=preset))
    waveforms = speechlike(12345, batch=3) * torch.tensor([[1.0], [1e-3], [10.0]])
    for waveform, found in zip(waveforms, filterbank(waveforms), strict=True):
        torch.testing.assert_close(found, filterbank(waveform[None])[0], atol=1e-6, rtol=0)
        np.testing.assert_allclose(filterbank.features(waveform.numpy()), found, atol=1e-6)


def test_the_mean_over_time_is_zero_and_silence_is_finite():
    filterbank = Filterbank(FrontEnd())
    assert filterbank(speechlike(16000)).mean(dim=1).abs().max() < 1e-5
    torch.testing.assert_close(filterbank(torch.zeros(1, 1600)), torch.zeros(1, 10, 80))


def test_autocast_changes_nothing():
    filterbank = Filterbank(FrontEnd())
    waveforms = speechlike(8000)
    with torch.autocast("cpu", torch.bfloat16):
        features = filterbank(waveforms)
    assert features.dtype == torch.float32
    assert torch.equal(features, filterbank(waveforms))


def test_leaves_no_trace_in_a_state_dict():
    assert not Filterbank(FrontEnd()).state_dict()


def test_less_than_a_frame_is_an_error():
    with pytest.raises(SparsifyError, match="399 samples are shorter than one frame of 400"):
        Filterbank(FrontEnd()).features(np.zeros(399, dtype=np.float32))


@pytest.mark.parametrize("preset", ["sherpa", "wespeaker", "speechbrain", "tfmel", "resemblyzer"])
@pytest.mark.parametrize("rate", [8000, 11025, 16000])
def test_frames_are_counted_as_they_are_computed(preset, rate):
    front_end = FrontEnd(preset=preset, sample_rate=rate)
    feats = Filterbank(front_end)(torch.zeros(1, 2 * rate))
    assert frame_count(front_end, 2) == feats.shape[1]
