"""Crops read from a file are those of the decoded whole, and read no more than they need."""

from functools import partial

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from sparsify.audio.decode import AS_ANNOUNCED, decode_audio, read_audio, read_crop, read_header
from sparsify.audio.on_demand import OnDemand
from sparsify.audio.samples import crop_start
from sparsify.audio.source import AudioSource
from sparsify.errors import SparsifyError

RATE = 16000


def noise(seconds, rate=RATE, channels=1):
    return 0.1 * np.random.default_rng(0).standard_normal((round(rate * seconds), channels))


def write(path, seconds=2.0, rate=RATE, channels=1, **kwargs):
    sf.write(path, noise(seconds, rate, channels), rate, **kwargs)
    return path


FORMATS = [
    ("a.wav", {}),
    ("a.wav", {"subtype": "PCM_24"}),
    ("a.wav", {"subtype": "FLOAT"}),
    ("a.wav", {"subtype": "ULAW"}),
    ("a.flac", {}),
    ("a.flac", {"channels": 2}),
    ("a.aiff", {}),
    ("a.ogg", {}),
    ("a.mp3", {}),
    ("a.wav", {"subtype": "IMA_ADPCM"}),
]


def tar_like(path):
    """The same bytes in the middle of a larger file."""
    content = path.read_bytes()
    container = path.with_suffix(".tar")
    container.write_bytes(b"x" * 1000 + content + b"y" * 1000)
    return AudioSource(container, offset=1000, size=len(content))


@pytest.mark.parametrize(("name", "kwargs"), FORMATS)
@pytest.mark.parametrize("member", [False, True])
def test_a_crop_is_that_of_the_decoded_whole(tmp_path, name, kwargs, member):
    path = write(tmp_path / name, **kwargs)
    source = tar_like(path) if member else AudioSource(path)
    with sf.SoundFile(path) as file:  # sf.read would seek, after which mp3 decodes differently
        whole = file.read(dtype="float32", always_2d=True).mean(axis=1)
    np.testing.assert_array_equal(read_audio(source, RATE), whole)
    for position in (0.0, 0.123, 0.5, 0.777, np.nextafter(1, 0)):
        start = int(position * (len(whole) - 8000 + 1))
        crop = read_crop(source, position, 8000, RATE)
        np.testing.assert_array_equal(crop, whole[start : start + 8000])


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
@pytest.mark.parametrize("position", [0.0, 0.0003, 0.4, 0.9997, np.nextafter(1, 0)])
def test_a_resampled_crop_is_that_of_the_resampled_whole(tmp_path, rate, position):
    path = write(tmp_path / "a.wav", rate=rate, subtype="FLOAT")
    whole = read_audio(path, RATE)
    start = int(position * (len(whole) - 8000 + 1))
    crop = read_crop(AudioSource(path), position, 8000, RATE)
    np.testing.assert_array_equal(crop, whole[start : start + 8000])


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_stretches_of_a_recording(tmp_path, name):
    path = write(tmp_path / name, 3.0)
    whole, _ = sf.read(path, dtype="float32")
    source = AudioSource(path, start=0.75, end=2.25)
    stretch = whole[12000:36000]
    assert read_header(source).seconds == 1.5
    np.testing.assert_array_equal(read_audio(source, RATE), stretch)
    start = int(0.4 * (len(stretch) - 4000 + 1))
    crop = read_crop(source, 0.4, 4000, RATE)
    np.testing.assert_array_equal(crop, stretch[start : start + 4000])
    assert read_crop(source, 0.4, 24001, RATE) is None
    for outside in (AudioSource(path, 3.0, 4.0), AudioSource(path, 1.0, 3.6)):
        assert "outside its recording, which ends at 3.00 s" in read_header(outside)
        assert "outside its recording" in decode_audio(outside, RATE)
    rounded = AudioSource(path, 1.0, 3.4)
    np.testing.assert_array_equal(read_audio(rounded, RATE), whole[16000:])


def test_a_crop_of_an_hour_reads_a_crop(tmp_path, monkeypatch):
    path = tmp_path / "hour.flac"
    with sf.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(60):
            file.write(np.zeros(60 * RATE, dtype=np.int16))
    read = []
    original = sf.SoundFile.read

    def counted(self, frames=-1, **kwargs):
        found = original(self, frames, **kwargs)
        read.append(len(found))
        return found

    monkeypatch.setattr(sf.SoundFile, "read", counted)
    assert len(read_crop(AudioSource(path), 0.9, 24000, RATE)) == 24000
    assert read == [24000]
    known = partial(read_crop, measure=lambda source, rate: AS_ANNOUNCED)
    assert len(known(AudioSource(path), 0.9, 24000, 44100)) == 24000
    assert sum(read) < 3e6  # a minute or so is resampled at once


def test_a_truncated_member_is_named(tmp_path):
    source = tar_like(write(tmp_path / "a.wav"))
    source.path.write_bytes(source.path.read_bytes()[:20000])
    with pytest.raises(SparsifyError, match=r"a\.tar at byte 1000: "):
        read_audio(source, RATE)


def test_broken_crops_are_left_to_the_whole(tmp_path):
    path = write(tmp_path / "a.flac")
    path.write_bytes(path.read_bytes()[:20000])
    assert read_crop(AudioSource(path), 0.9, 8000, RATE) is None
    assert read_crop(AudioSource(tmp_path / "gone.wav"), 0.9, 8000, RATE) is None


def test_a_flac_written_to_a_pipe_has_no_length(tmp_path):
    path = write(tmp_path / "a.flac")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert "unknown length" in read_header(AudioSource(path))
    assert "unknown length" in decode_audio(AudioSource(path), RATE)


@pytest.mark.parametrize("suffix", ["m4a", "M4A", "aac", "wma"])
def test_what_libsndfile_cannot_decode_comes_with_the_mend(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(SparsifyError, match=rf"ffmpeg -i FILE\.{suffix.lower()}"):
        read_audio(path, RATE)


@given(st.integers(1, 100), st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_crops_fit(available, samples, position):
    start = crop_start(available, position, samples)
    assert (start is None) == (available < samples)
    assert start is None or 0 <= start <= available - samples


def test_what_cannot_be_read_is_told_with_what_helps(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no audio")
    told = {
        "empty.wav": "empty file; check that the file is an intact wav",
        "text.wav": "Format not recognised; check that the file is an intact wav",
        "missing.wav": "no such file; check the path$",
    }
    for name, message in told.items():
        with pytest.raises(SparsifyError, match=rf"{name}: {message}"):
            read_audio(tmp_path / name, RATE)


def test_a_network_is_given_an_hour_at_most_and_a_training_more(tmp_path):
    sf.write(tmp_path / "long.flac", np.tile([0.1, -0.1], 2000 * 1801), 2000)
    with pytest.raises(SparsifyError, match="longer than 1 h: cut it into utterances"):
        read_audio(tmp_path / "long.flac", 2000)
    source = AudioSource(tmp_path / "long.flac")
    assert len(OnDemand(2000).waveform(source)) == 2 * 2000 * 1801
