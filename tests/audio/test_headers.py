"""Headers that announce what their files do not hold cost no memory and end in a sentence."""

import io
import os
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile as sf

from sparsify.audio.decode import decode_audio, measure_audio, read_audio, read_crop, read_header
from sparsify.audio.source import AudioSource
from sparsify.corpus.layouts import load_corpus
from sparsify.errors import SparsifyError

RATE = 16000


def encoded(**kwargs):
    stream = io.BytesIO()
    samples = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    sf.write(stream, samples, RATE, **kwargs)
    return stream.getvalue()


def at(place, layout, *values):
    """Writes numbers at a place, which is a number of bytes or of bytes after a marker."""

    def patch(content):
        marker, after = place if isinstance(place, tuple) else (b"", place)
        changed = bytearray(content)
        struct.pack_into(layout, changed, content.index(marker) + after, *values)
        return bytes(changed)

    return patch


def replacing(old, new):
    return lambda content: content.replace(old, new + b" " * (len(old) - len(new)), 1)


def flac(rate=RATE, frames=RATE):
    return at(18, ">Q", rate << 44 | 15 << 36 | frames)


ODD = {
    "64 G frames": ("FLAC", flac(frames=2**36 - 1), "announces 68719476735 frames"),
    "100 M frames": ("FLAC", flac(frames=10**8), "longer than 1 h"),
    "a little more": ("FLAC", flac(frames=RATE + 1), "truncated"),
    "13 hours": ("FLAC", flac(rate=1000, frames=13 * 3600 * 1000), "longer than 1 h"),
    "1 MHz": ("FLAC", flac(rate=10**6), "a sample rate of|."),
    "no rate": ("FLAC", flac(rate=0), "."),
    "wav of 2 GB": ("WAV", at(40, "<I", 2**31 - 2**20), "truncated"),
    "wav at 2 GHz": ("WAV", at(24, "<I", 2**31 - 1), "a sample rate of 2147483647 Hz"),
    "wav at -1 Hz": ("WAV", at(24, "<I", 2**32 - 1), "."),
    "wav at 0 Hz": ("WAV", at(24, "<I", 0), "."),
    "wav of 1,000 channels": ("WAV", at(22, "<HIIH", 1000, RATE, RATE * 2000, 2000), None),
    "wav of 65,535 channels": ("WAV", at(22, "<H", 65535), "."),
    "aiff of 4 G frames": ("AIFF", at((b"COMM", 10), ">I", 2**32 - 1), None),
    "aiff of -1 channels": ("AIFF", at((b"COMM", 8), ">h", -1), "."),
    "aiff at 1e300 Hz": ("AIFF", at((b"COMM", 16), ">H", 0x7FFE), "."),
    "caf of 2**60 bytes": ("CAF", at((b"data", 4), ">q", 2**60), None),
    "caf at 1e300 Hz": ("CAF", at((b"desc", 12), ">d", 1e300), "."),
    "w64 of 2**60 bytes": ("W64", at((b"data", 16), "<q", 2**60), None),
    "rf64 of 2**60 bytes": ("RF64", at((b"ds64", 16), "<QQ", 2**60, 2**59), None),
    "au of 4 GB": ("AU", at(8, ">I", 2**32 - 1), None),
    "au at 4 GHz": ("AU", at(16, ">I", 2**32 - 1), "."),
    "sph of 10**12 samples": (
        "NIST",
        replacing(b"sample_count -i 16000", b"sample_count -i 10e9"),
        None,
    ),
    "sph at 1 GHz": (
        "NIST",
        replacing(b"sample_rate -i 16000\n", b"sample_rate -i 999999\n"),
        "a sample rate",
    ),
    "voc at 1 MHz": ("VOC", at(30, "<I", 10**6), "a sample rate of 1000000 Hz"),
    "voc at 0 Hz": ("VOC", at(30, "<I", 0), "."),
}


@pytest.mark.parametrize(("kind", "patch", "reason"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("member", [False, True])
def test_headers_of_nonsense(tmp_path, kind, patch, reason, member):
    content = patch(encoded(format=kind))
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(b"x" * 512 + content + b"y" * 512 if member else content)
    source = AudioSource(path, offset=512, size=len(content)) if member else AudioSource(path)
    tracemalloc.start()
    header, decoded = read_header(source), decode_audio(source, RATE)
    measured, crop = measure_audio(source, RATE), read_crop(source, 0.5, 100, RATE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24
    if reason is None:  # what there is of it is as good as any
        assert isinstance(decoded, str) or len(decoded) <= 1.01 * RATE
        assert isinstance(header, str) or header.seconds < 1.01
        return
    assert decoded == measured
    assert isinstance(decoded, str)
    assert crop is None or len(crop) == 100  # of what there is
    with pytest.raises(SparsifyError, match=reason):
        read_audio(source, RATE)


def test_a_corpus_does_without_them(tmp_path):
    for speaker in "ab":
        (tmp_path / speaker).mkdir()
        for number in (1, 2):
            (tmp_path / speaker / f"{number}.wav").write_bytes(encoded(format="WAV"))
    (tmp_path / "a" / "odd.flac").write_bytes(flac(frames=2**36 - 1)(encoded(format="FLAC")))
    (tmp_path / "b" / "odd.voc").write_bytes(at(30, "<I", 10**6)(encoded(format="VOC")))
    corpus = load_corpus(tmp_path)
    assert corpus.seconds == 4
    assert {s.path.name for s in corpus.skipped} == {"odd.flac", "odd.voc"}


@pytest.mark.parametrize(("offset", "size"), [(0, 2**50), (2**50, 10), (10**6, 100), (0, 0)])
def test_members_beyond_their_file(tmp_path, offset, size):
    path = tmp_path / "a.tar"
    path.write_bytes(encoded(format="WAV"))
    source = AudioSource(path, offset=offset, size=size)
    assert isinstance(read_header(source), str)
    assert isinstance(decode_audio(source, RATE), str)
    assert read_crop(source, 0.5, 100, RATE) is None


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "a.raw").write_bytes(bytes(100))
    reasons = {
        "pipe.wav": "no such file",
        "folder.wav": "it is a folder",
        "a.raw": "without a header",
    }
    for name, reason in reasons.items():
        source = AudioSource(tmp_path / name)
        assert isinstance(read_header(source), str)
        assert reason in decode_audio(source, RATE)
        assert read_crop(source, 0.5, 100, RATE) is None
