"""The example in C: it reads what sparsify reads, and survives what it does not."""

import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sparsify.audio.decode import read_audio

RATE = 16000

# A model whose embedding is the beginning of the audio.
MODEL = """
#include <string.h>
#include "model.h"
int sparsify_embedding_dim(void) { return 64; }
int sparsify_sample_rate(void) { return 16000; }
int sparsify_frames(int count) { return count < 400 ? 0 : count / 160; }
size_t sparsify_workspace_bytes(int frames) { return (size_t)frames; }
int sparsify_embed_audio(const float *samples, int count, void *workspace, size_t bytes,
                         float *embedding) {
  if (count < 400) return SPARSIFY_ERROR_TOO_SHORT;
  memset(workspace, 0, bytes);
  memcpy(embedding, samples, 64 * sizeof *embedding);
  return samples[count - 1] == 0.125f ? SPARSIFY_ERROR_WORKSPACE : 0;
}
const char *sparsify_instructions(void) { return "none"; }
const char *sparsify_error(int code) { return code == SPARSIFY_ERROR_TOO_SHORT ? "short" : "bad"; }
"""

# Reads a WAV again and again, each time with some of its bytes changed and its end cut off.
MUTATIONS = """
#define _GNU_SOURCE
#define main example
#include "example.c"
#undef main
static uint32_t state = 1;
static uint32_t number_below(uint32_t limit) {
  state = state * 1664525u + 1013904223u;
  return (uint32_t)((uint64_t)state * limit >> 32);
}
int main(int argc, char **argv) {
  static unsigned char original[4096], changed[4096];
  static const uint32_t odd[] = {0, 1, 2, 3, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000,
                                 0xfffffffe, 0xffffffff};
  int read = 0;
  for (int path = 1; path < argc; path++) {
    FILE *file = fopen(argv[path], "rb");
    const size_t size = fread(original, 1, sizeof original, file);
    fclose(file);
    for (int round = 0; round < 3000; round++) {
      memcpy(changed, original, size);
      for (uint32_t n = number_below(4); n > 0; n--) {
        const uint32_t value = odd[number_below(12)], width = 1u << number_below(3);
        memcpy(changed + number_below(64), &value, width);
      }
      const size_t length = number_below(2) ? size : 1 + number_below((uint32_t)size);
      struct recording r = {0};
      FILE *stream = fmemopen(changed, length, "rb");
      const char *wrong = read_wav(stream, &r);
      if (!wrong && bring_to_scale(&r)) {
        read++;
        if (r.count > length) return 1;
      }
      fclose(stream);
      free(r.samples);
    }
  }
  printf("%d\\n", read);
}
"""


@pytest.fixture(scope="module", params=["here", "arm64"])
def program(request, tmp_path_factory):
    """The command that starts it."""
    output = tmp_path_factory.mktemp("example") / "example"
    source = '#include "example.c"\n' + MODEL
    if request.param == "arm64":
        return ["qemu-aarch64", request.getfixturevalue("compile_arm64")(source, output)]
    sanitizers = request.getfixturevalue("sanitizers")
    return [request.getfixturevalue("compile_c")(source, output, *sanitizers)]


@pytest.fixture
def example(program):
    return lambda *arguments: subprocess.run(
        [*program, *arguments], capture_output=True, text=True, check=False
    )


def waveform(channels=1, samples=800, scale=0.3):
    shape = (samples, channels) if channels > 1 else samples
    return scale * np.random.default_rng(channels).standard_normal(shape)


def content(path, **kwargs):
    sf.write(path, waveform(), RATE, **{"subtype": "PCM_16", "format": "WAV", **kwargs})
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_reads_what_sparsify_reads(example, tmp_path, subtype, kind):
    for channels in (1, 2, 6):
        path = tmp_path / f"{channels}.wav"
        scale = 2.0 if subtype == "FLOAT" else 0.2
        sf.write(path, waveform(channels, scale=scale), RATE, subtype=subtype, format=kind)
        done = example(path)
        assert (done.returncode, done.stderr) == (0, "")
        found = np.array(done.stdout.split(), np.float32)
        np.testing.assert_allclose(found, read_audio(path, RATE)[:64], rtol=3e-7, atol=1e-8)


def test_cosine_of_two(example, tmp_path):
    paths = tmp_path / "one.wav", tmp_path / "two.wav"
    for seed, path in enumerate(paths, 1):
        sf.write(path, waveform(seed), RATE, subtype="FLOAT")
    a, b = (read_audio(path, RATE)[:64].astype(float) for path in paths)
    expected = a @ b / np.sqrt(a @ a * (b @ b))
    assert float(example(*paths).stdout) == pytest.approx(expected, abs=1e-6)
    assert float(example(paths[0], paths[0]).stdout) == 1


def test_how_long_it_takes(example, tmp_path):
    path = tmp_path / "a.wav"
    content(path)
    done = example("--repeat", "5", path)
    assert (done.returncode, done.stderr) == (0, "")
    line = r"none: (\d+\.\d{3}) ms for 0\.05 s of audio, real-time factor (\S+) \(median of 5\)\n"
    milliseconds, factor = map(float, re.fullmatch(line, done.stdout).groups())
    assert factor == pytest.approx(milliseconds / 50, abs=2e-5)


def test_other_chunks_pipes_and_unknown_sizes(example, program, tmp_path):
    path = tmp_path / "a.wav"
    plain = content(path)
    expected = example(path).stdout
    odd_chunk = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    for changed in [
        plain[:12] + odd_chunk + plain[12:],
        plain[:36] + odd_chunk + plain[36:],
        plain + odd_chunk,
        plain[:40] + struct.pack("<I", 0xFFFFFFFF) + plain[44:],
    ]:
        path.write_bytes(changed)
        assert example(path).stdout == expected
        assert len(read_audio(path, RATE)) >= 800
    with path.open("rb") as file:
        pipe = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
        command = [*program, "/dev/stdin"]
        assert subprocess.check_output(command, stdin=pipe.stdout, text=True) == expected
        pipe.communicate()


def patched(place, layout, *values):
    def patch(wav):
        struct.pack_into(layout, wav, place, *values)
        return wav

    return patch


BAD = {
    "empty": (lambda wav: b"", "it is no WAV"),
    "text": (lambda wav: b"hello" * 100, "it is no WAV"),
    "header alone": (lambda wav: wav[:44], "it is truncated"),
    "cut in the header": (lambda wav: wav[:30], "its header is damaged"),
    "no data": (lambda wav: wav[:36], "it has no samples"),
    "data first": (lambda wav: wav[:12] + wav[36:], "its header is damaged"),
    "data of nothing": (patched(40, "<I", 0), "it has no samples"),
    "no format": (patched(16, "<I", 4), "its header is damaged"),
    "half": (lambda wav: wav[: len(wav) // 2], "it is truncated"),
    "data of 2 GB": (patched(40, "<I", 0x7FFE0000), "it is truncated"),
    "chunk of 4 GB": (patched(36, "<4sI", b"junk", 0xFFFFFFFF), "it has no samples"),
    "no channels": (patched(22, "<H", 0), "its number of channels is impossible"),
    "65,535 channels": (patched(22, "<H", 65535), "its number of channels is impossible"),
    "two channels": (patched(22, "<H", 2), "its header is damaged"),
    "12 bits": (patched(34, "<H", 12), "it holds neither PCM"),
    "mu-law": (patched(20, "<H", 7), "it holds neither PCM"),
    "another rate": (patched(24, "<I", 8000), "it is at 8000 Hz, and the model at 16000 Hz"),
    "rate of 4 GHz": (patched(24, "<I", 0xFFFFFFFF), "it is at 4294967295 Hz"),
    "short": (lambda wav: patched(40, "<I", 600)(wav)[:644], "short"),
    "refused": (patched(44 + 1598, "<h", 4096), "bad"),
}


@pytest.mark.parametrize(("damage", "reason"), BAD.values(), ids=BAD)
def test_bad_files_get_one_sentence(example, tmp_path, damage, reason):
    path = tmp_path / "a.wav"
    path.write_bytes(damage(content(path)))
    done = example(path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"cannot embed {path}: {reason}")
    assert done.stderr.count("\n") == 1


def test_no_numbers_no_files_no_arguments(example, tmp_path):
    path = tmp_path / "a.wav"
    samples = waveform()
    samples[77] = np.nan
    sf.write(path, samples, RATE, subtype="FLOAT")
    assert "samples that are not finite" in example(path).stderr
    assert "it cannot be opened" in example(tmp_path / "none.wav").stderr
    assert "it is no WAV" in example(tmp_path).stderr
    repeated = [("--repeat", *more) for more in [(), ("5",), ("0", path), ("5x", path)]]
    for arguments in [(), (path, path, path), *repeated, ("--repeat", "5", path, path)]:
        done = example(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: ")


def test_what_cannot_be_written_is_an_error(program, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    path = tmp_path / "a.wav"
    content(path)
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run([*program, path], stdout=full, check=False).returncode == 1


def test_mutated_files(compile_c, sanitizers, tmp_path):
    paths = []
    for subtype, kind in [("PCM_16", "WAV"), ("PCM_24", "WAVEX"), ("FLOAT", "WAV")]:
        paths.append(tmp_path / f"{subtype}.wav")
        content(paths[-1], subtype=subtype, format=kind)
    program = compile_c(MUTATIONS + MODEL, tmp_path / "mutations", *sanitizers, "-O1")
    done = subprocess.run([program, *paths], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert int(done.stdout) > 500  # many are read all the same
