"""The front end in C against `Filterbank`, for every instruction set that the machine has."""

import ctypes
import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsify.audio.decode import read_audio
from sparsify.audio.features import Filterbank
from sparsify.audio.samples import from_int16, to_int16
from sparsify.exporters.native.front_end import front_end_section
from sparsify.recipe.sections import FrontEnd

from .machines import Here

TARGETS = {
    "plain": (4, ""),
    "avx2": (8, "avx2,fma"),
    "avx512f": (16, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"),
}
FUNCTIONS = "frames", "scratch", "features", "logarithms"
PRESETS = ("sherpa", "wespeaker", "speechbrain", "tfmel")

LIBRARY = """
#include <math.h>
#include <string.h>
#ifdef TARGET
#define TEXT(x) #x
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target(TARGET))), apply_to = function)
#else
#define PRAGMA(x) _Pragma(TEXT(x))
#define TARGETED(x) PRAGMA(GCC target(x))
TARGETED(TARGET)
#endif
#endif
#include "front_end.h"
int frames(const int32_t *section, int count) { return front_end_frames(section, count); }
size_t scratch(const int32_t *section, int count) { return front_end_scratch(section, count); }
void features(const int32_t *section, const float *samples, int count, float *feats, float *space) {
  front_end_features(section, samples, count, feats, space);
}
void logarithms(const float *x, float *y, int count) {
  for (int i = 0; i < count; i++) y[i] = vlog(splat(x[i]))[LANES - 1];
}
#if defined(__clang__) && defined(TARGET)
#pragma clang attribute pop
#endif
"""

# Reads a section and numbers of samples; every array is exactly as large as it must be.
GUARDED = """
#include <stdio.h>
#include <stdlib.h>
#define LANES 16
#include "front_end.h"
int main(int argc, char **argv) {
  FILE *file = fopen(argv[1], "rb");
  const size_t size = strtoul(argv[2], NULL, 10);
  int32_t *section = malloc(size);
  if (fread(section, 1, size, file) != size) return 1;
  fclose(file);
  for (int i = 3; i < argc; i++) {
    const int count = atoi(argv[i]), frames = front_end_frames(section, count);
    const size_t bins = (size_t)((const struct front_end *)section)->bins;
    float *samples = malloc(sizeof(float) * (size_t)count);
    float *feats = malloc(sizeof(float) * (size_t)frames * bins);
    float *scratch = malloc(sizeof(float) * front_end_scratch(section, count));
    for (int n = 0; n < count; n++) samples[n] = (float)(n * 7919 % 1000) / 1000.0f;
    front_end_features(section, samples, count, feats, scratch);
    printf("%d\\n", frames);
    free(samples), free(feats), free(scratch);
  }
  free(section);
}
"""


class Engine:
    """A compiled front end on some machine."""

    def __init__(self, machine):
        self.call = machine.call

    def features(self, front_end, waveform):
        section = front_end_section(front_end)
        samples = np.ascontiguousarray(waveform, np.float32)
        count = len(samples)
        frames = self.call("frames", section, count)
        feats = np.empty((frames, front_end.num_mel_bins), np.float32)
        scratch = np.full(self.call("scratch", section, count), np.nan, np.float32)
        self.call("features", section, samples, count, feats, scratch)
        return feats


@pytest.fixture(scope="module", params=[*TARGETS, "arm64", "wasm"])
def engine(request, compile_c, tmp_path_factory):
    if request.param in ("arm64", "wasm"):
        return Engine(request.getfixturevalue(request.param)(LIBRARY, FUNCTIONS, "-DLANES=4"))
    folder = tmp_path_factory.mktemp("front_end")
    lanes, target = TARGETS[request.param]
    options = ["-O2", "-shared", "-fPIC", f"-DLANES={lanes}"]
    if target:
        options.append(f'-DTARGET="{target}"')
        if not processor_has(request.param, compile_c, folder):
            pytest.skip(f"the processor has no {request.param}")
    library = compile_c(LIBRARY, folder / "front_end.so", *options)
    return Engine(Here(ctypes.CDLL(str(library))))


def processor_has(instructions, compile_c, folder):
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    source = f'int main(void) {{ return !__builtin_cpu_supports("{instructions}"); }}'
    return subprocess.run([compile_c(source, folder / "has")], check=False).returncode == 0


def noise(samples, seed=0):
    """Noise whose level changes over three orders of magnitude."""
    level = 10 ** np.linspace(-3.5, -0.5, samples)
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def exact(front_end, waveform):
    """The features in double precision."""
    bank = Filterbank(front_end).double()
    computed = {"speechbrain": bank._speechbrain, "tfmel": bank._tfmel}
    compute = computed.get(front_end.preset, bank._kaldi)
    features = compute(torch.from_numpy(np.asarray(waveform, np.float64))[None])[0]
    return (features - features.mean(0)).numpy()


def assert_equals(engine, front_end, waveform):
    waveform = np.asarray(waveform, np.float32)
    expected = Filterbank(front_end).features(waveform)
    atol = 3e-4 if front_end.preset == "tfmel" else 2e-4
    np.testing.assert_allclose(engine.features(front_end, waveform), expected, atol=atol, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_equals_filterbank_at_every_length(engine, preset):
    front_end = FrontEnd(preset=preset)
    for samples in [400, 401, 479, 480, 559, 560, 639, 640, 799, 800, 2800, 5679, 16000]:
        assert_equals(engine, front_end, noise(samples))


# 11,025 Hz has odd lengths; at 384 kHz a frame has 9,600 samples.
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("rate", "bins"), [(8000, 40), (11025, 23), (44100, 80), (384000, 129)])
def test_equals_filterbank_at_other_rates(engine, preset, rate, bins):
    if preset == "speechbrain":  # transforms 400 samples
        rate = min(rate, 16000)
    front_end = FrontEnd(preset=preset, sample_rate=rate, num_mel_bins=bins)
    for samples in [Filterbank(front_end).length, rate // 4 + 1]:
        assert_equals(engine, front_end, noise(samples))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
def test_filters_without_a_frequency(engine, preset):
    assert_equals(engine, FrontEnd(preset=preset, num_mel_bins=1024), noise(4000))


@pytest.mark.parametrize("preset", PRESETS)
def test_silence_impulses_offsets_and_levels(engine, preset):
    front_end, samples = FrontEnd(preset=preset), noise(4000)
    impulse = np.eye(1, 4000, 1234)[0]
    for waveform in [
        0 * samples,
        np.full(4000, 0.1),
        impulse,
        np.where(np.arange(4000) < 2000, 0, samples),
        np.sign(samples),
        1e-6 * samples,
        1e-20 * samples,
        1e-42 * samples,
    ]:
        assert_equals(engine, front_end, waveform)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_not_finite_spreads_as_in_filterbank(engine, preset):
    for value in (np.nan, np.inf):
        waveform = noise(4000)
        waveform[1234] = value
        assert np.isnan(Filterbank(FrontEnd(preset=preset)).features(waveform)).all()
        assert np.isnan(engine.features(FrontEnd(preset=preset), waveform)).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_an_offset_costs_no_more_than_in_filterbank(engine, preset):
    front_end = FrontEnd(preset=preset)
    waveform = (0.5 + 0.03 * noise(8000)).astype(np.float32)
    truth = exact(front_end, waveform)
    error = np.abs(engine.features(front_end, waveform) - truth)
    theirs = np.abs(Filterbank(front_end).features(waveform) - truth)
    assert error.max() < 1.5 * theirs.max() + 1e-5


def test_less_than_a_frame_has_no_frames(engine):
    section = front_end_section(FrontEnd())
    counts = [-(2**31), -1, 0, 399, 400, 2**31 - 1]
    found = [engine.call("frames", section, count) for count in counts]
    assert found == [0, 0, 0, 0, 3, (2**31 - 1 + 80) // 160]


def test_logarithms(engine):
    usual = np.arange(1, 0x7F800000, 99991, dtype=np.uint32).view(np.float32)
    x = np.append(usual, np.float32([0, -0.0, -1, np.inf, np.nan]))
    y = np.empty_like(x)
    engine.call("logarithms", x, y, len(x))
    with np.errstate(all="ignore"):
        expected = np.log(x.astype(np.float64))
    np.testing.assert_allclose(y, expected, rtol=1.2e-7, atol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_speech_is_as_near_the_exact_features_as_filterbank(engine, preset):
    corpus = os.environ.get("SPARSIFY_SPEECH_MINI")
    if not corpus:
        pytest.skip("set SPARSIFY_SPEECH_MINI to a folder with speech")
    front_end = FrontEnd(preset=preset)
    errors, theirs = [], []
    for file in sorted(Path(corpus, "test").rglob("*.ogg"))[:60:10]:
        waveform = from_int16(to_int16(read_audio(file, front_end.sample_rate)))
        truth = exact(front_end, waveform)
        errors.append(np.ravel(engine.features(front_end, waveform) - truth))
        theirs.append(np.ravel(Filterbank(front_end).features(waveform) - truth))
    ours, reference = np.abs(np.concatenate(errors)), np.abs(np.concatenate(theirs))
    factor = 1.4 if front_end.preset == "tfmel" else 1.2
    assert np.sqrt(np.mean(ours**2)) < factor * np.sqrt(np.mean(reference**2))
    assert np.quantile(ours, 0.999) < 2e-4


def test_reads_and_writes_nothing_beyond_its_arrays(compile_c, sanitizers, tmp_path):
    program = compile_c(GUARDED, tmp_path / "guarded", *sanitizers)
    for preset, rate, bins in [
        ("sherpa", 16000, 80), ("sherpa", 11025, 23), ("wespeaker", 44100, 33),
        ("wespeaker", 16000, 16), ("speechbrain", 8000, 40), ("speechbrain", 16000, 80),
        ("tfmel", 16000, 72), ("tfmel", 11025, 23),
    ]:  # fmt: skip
        front_end = FrontEnd(preset=preset, sample_rate=rate, num_mel_bins=bins)
        section = front_end_section(front_end)
        (tmp_path / "section").write_bytes(section)
        bank = Filterbank(front_end)
        # Some of these make exactly LANES frames, the last of them at the end of the audio.
        whole = [15 * bank.shift, 16 * bank.shift, 15 * bank.shift + bank.length]
        counts = [bank.length, bank.length + 1, *whole, rate // 2 + 7]
        done = subprocess.run(
            [program, tmp_path / "section", str(len(section)), *map(str, counts)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not done.stderr
        expected = [len(bank.features(np.zeros(count, np.float32))) for count in counts]
        assert list(map(int, done.stdout.split())) == expected
