"""Any rate becomes any other in bounded memory, and a piece is that of the whole."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import soundfile as sf
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st

from sparsify.audio import resampling
from sparsify.audio.decode import decode_audio, read_audio, read_crop, read_header
from sparsify.audio.resampling import Resampler, resample
from sparsify.audio.source import AudioSource

RATE = 16000
USUAL = (*(8000, 11025, 12000, 16000, 22050, 24000, 32000), *(44100, 48000, 88200, 96000, 192000))
ODD = (1000, 1001, 5512, 7919, 15999, 16001, 22051, 44101, 47999, 96001, 191999, 383100, 383999)


def noise(samples, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)


def decibels(error):
    return 10 * np.log10(np.square(error).mean() / 0.5)


@pytest.mark.parametrize("rate", USUAL)
@pytest.mark.parametrize("seconds", [0.31, 1.7])
def test_usual_rates_are_resampled_by_torchaudio(rate, seconds):
    samples = noise(round(rate * seconds) + 1)
    expected = torchaudio.functional.resample(torch.from_numpy(samples), rate, RATE)
    np.testing.assert_array_equal(resample(samples, rate, RATE), expected)


@pytest.mark.parametrize("rate", ODD)
def test_a_tone_keeps_its_frequency(rate):
    frequency = 0.2 * min(rate, RATE)
    tone = np.sin(2 * np.pi * frequency * np.arange(rate * 3) / rate).astype(np.float32)
    found = resample(tone, rate, RATE)
    assert len(found) == 3 * RATE
    expected = np.sin(2 * np.pi * frequency * np.arange(len(found)) / RATE)
    inside = slice(RATE // 10, -RATE // 10)
    assert decibels((found - expected)[inside]) < -65


@pytest.mark.parametrize("rate", [1001, 5512, 383100])
def test_many_phases_give_what_torchaudio_gives(rate):
    samples = noise(rate)
    expected = torchaudio.functional.resample(torch.from_numpy(samples), rate, RATE)
    assert decibels(resample(samples, rate, RATE) - expected.numpy()) < -80


@pytest.mark.parametrize("rate", ODD)
def test_memory_is_bounded(rate):
    samples = noise(10 * rate)
    resample(samples[:1000], rate, RATE)
    tracemalloc.start()
    resample(samples, rate, RATE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * samples.nbytes + 2**23


@pytest.mark.parametrize(
    ("rate", "suffix"),
    [(8000, "wav"), (16001, "wav"), (191999, "wav"), (8000, "mp3"), (44100, "mp3")],
)
def test_blocks_join_and_pieces_are_of_the_whole(tmp_path, monkeypatch, rate, suffix):
    path = tmp_path / f"a.{suffix}"
    sf.write(path, 0.5 * noise(rate * 2), rate)
    source = AudioSource(path, start=0.25)
    at_once = read_audio(source, RATE)
    monkeypatch.setattr(resampling, "_BLOCK", 5000)
    whole = read_audio(source, RATE)
    assert len(whole) == len(at_once)
    np.testing.assert_allclose(whole, at_once, atol=1e-6)
    for position in (0.0, 0.21, 0.5, np.nextafter(1, 0)):
        start = int(position * (len(whole) - 7000 + 1))
        crop = read_crop(source, position, 7000, RATE)
        np.testing.assert_array_equal(crop, whole[start : start + 7000])


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads):
    for rate in (8000, 22050, 44100):
        for samples in (noise(rate // 3), noise(3 * rate)):
            expected = resample(samples, rate, RATE)
            torch.set_num_threads(threads)
            np.testing.assert_array_equal(resample(samples, rate, RATE), expected)
            assert torch.get_num_threads() == threads
            torch.set_num_threads(1)


@pytest.mark.parametrize("rate", [1, 999, 384_001, 10**9])
def test_other_rates_are_refused(tmp_path, rate):
    source = AudioSource(tmp_path / "a.wav")
    sf.write(source.path, np.zeros(2000), rate)
    reason = f"a sample rate of {rate} Hz, which is not in 1000 to 384000 Hz"
    assert read_header(source) == decode_audio(source, RATE) == reason
    assert read_crop(source, 0.5, 100, RATE) is None


@given(
    st.integers(1000, 384_000),
    st.sampled_from([8000, 16000, 44100]),
    st.integers(0, 10**12),
    st.integers(1, 10**7),
)
def test_blocks_cover_what_is_wanted(rate, new_rate, start, count):
    resampler = Resampler(rate, new_rate)
    wanted = range(start, start + count)
    blocks = list(resampler.blocks(wanted))
    assert blocks[0].start <= wanted.start
    assert wanted.stop <= blocks[-1].stop
    for block, following in pairwise(blocks):
        assert block.stop == following.start
        assert resampler.inputs(block).start <= resampler.inputs(following).start
    for block in blocks:
        # The samples at the same time, and those around them.
        inputs = resampler.inputs(block)
        assert inputs.start * new_rate <= block.start * rate
        assert inputs.stop * new_rate >= block.stop * rate
