import numpy as np
import pytest
import torch
from torchaudio.compliance.kaldi import fbank

from sparsify.audio.features import Filterbank, frame_count
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
@pytest.mark.parametrize(("rate", "bins"), [(8000, 40), (16000, 64), (44100, 80)])
def test_equals_kaldi_at_other_rates(preset, rate, bins):
    front_end = FrontEnd(preset=preset, sample_rate=rate, num_mel_bins=bins)
    waveform = speechlike(rate // 2)
    expected = reference(waveform[0], front_end)
    torch.testing.assert_close(Filterbank(front_end)(waveform)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("preset", ["sherpa", "wespeaker", "speechbrain"])
def test_a_batch_equals_its_members(preset):
    filterbank = Filterbank(FrontEnd(preset=preset))
    waveforms = speechlike(12345, batch=3) * torch.tensor([[1.0], [1e-3], [10.0]])
    for waveform, features in zip(waveforms, filterbank(waveforms), strict=True):
        torch.testing.assert_close(features, filterbank(waveform[None])[0], atol=1e-6, rtol=0)
        np.testing.assert_allclose(filterbank.features(waveform.numpy()), features, atol=1e-6)


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


@pytest.mark.parametrize("preset", ["sherpa", "wespeaker", "speechbrain"])
@pytest.mark.parametrize("rate", [8000, 11025, 16000])
def test_frames_are_counted_as_they_are_computed(preset, rate):
    front_end = FrontEnd(preset=preset, sample_rate=rate)
    feats = Filterbank(front_end)(torch.zeros(1, 2 * rate))
    assert frame_count(front_end, 2) == feats.shape[1]
