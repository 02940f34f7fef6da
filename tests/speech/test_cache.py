import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import SparsifyError
from sparsify.speech.cache import AudioCache, from_int16, load_audio, to_int16
from sparsify.speech.layouts import load_corpus
from sparsify.speech.utterances import Utterance

RATE = 16000


@pytest.fixture
def folder(tmp_path):
    """Three speakers with three utterances of noise each, 1 s, 0.5 s and 1 s at 8 kHz."""
    rng = np.random.default_rng(0)
    for speaker in ("anna", "bert", "carl"):
        (tmp_path / speaker).mkdir()
        for name, samples, rate in (("1", RATE, RATE), ("2", RATE // 2, RATE), ("3", 8000, 8000)):
            path = tmp_path / speaker / f"{name}.flac"
            sf.write(path, 0.1 * rng.standard_normal(samples), rate)
    return tmp_path


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_memory_and_disk_give_the_same_audio(folder):
    corpus, memory = load_audio(load_corpus(folder), RATE)
    _, disk = load_audio(corpus, RATE, budget=0)
    for utterance in corpus.utterances:
        # Resampling leaves the 16-bit grid, to which the memory rounds.
        tolerance = 2**-16 if utterance.key.endswith("3.flac") else 0
        whole = disk.waveform(utterance)
        np.testing.assert_allclose(memory.waveform(utterance), whole, atol=tolerance, rtol=0)
        for position in (0.0, 0.37, 0.999):
            crop = disk.crop(utterance, position, 10_000)
            assert crop.shape == (10_000,)
            np.testing.assert_allclose(
                memory.crop(utterance, position, 10_000), crop, atol=tolerance, rtol=0
            )


@given(st.integers(1, 50), st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_a_crop_is_a_piece_and_what_is_too_short_is_repeated(available, samples, position):
    recording = np.arange(available, dtype=np.int16)
    cache = AudioCache(RATE, {"a/1": recording})
    crop = to_int16(cache.crop(Utterance("a/1", "a", None, 1.0), position, samples))
    assert len(crop) == samples
    assert set(np.diff(crop)) <= {1, 1 - available}
    if available >= samples:
        assert crop[0] == int(position * (available - samples + 1))
    else:
        assert crop[0] == 0


def test_sixteen_bits_are_kept_exactly():
    values = np.arange(-(2**15), 2**15).astype(np.int16)
    assert np.array_equal(to_int16(from_int16(values)), values)
    assert to_int16(np.array([1.0], dtype=np.float32))[0] == 2**15 - 1


def test_files_that_only_decoding_tells_broken_are_left_out(folder):
    truncate(folder / "anna" / "1.flac")
    found = load_corpus(folder)
    assert not found.skipped
    corpus, _ = load_audio(found, RATE)
    assert len(corpus.utterances) == 8
    (skipped,) = corpus.skipped
    assert skipped.path == folder / "anna" / "1.flac"
    assert "lost sync" in skipped.reason
    with pytest.raises(SparsifyError, match=r"anna/1\.flac: .*lost sync"):
        load_audio(found, RATE, strict=True)


def test_a_truncated_mp3_is_left_out(folder):
    path = folder / "anna" / "4.mp3"
    sf.write(path, 0.1 * np.random.default_rng(0).standard_normal(3 * RATE), RATE)
    truncate(path)
    corpus, _ = load_audio(load_corpus(folder), RATE)
    assert [(s.path, s.reason) for s in corpus.skipped] == [(path, "truncated")]


def test_a_speaker_left_with_one_utterance_goes_too(folder):
    truncate(folder / "anna" / "1.flac")
    truncate(folder / "anna" / "3.flac")
    corpus, _ = load_audio(load_corpus(folder), RATE)
    assert corpus.speakers == ("bert", "carl")
    assert corpus.skipped[-1].reason == "only one utterance of speaker anna"


def test_a_broken_file_met_on_demand_is_an_error_that_names_it(folder):
    corpus, disk = load_audio(load_corpus(folder), RATE, budget=0)
    truncate(folder / "anna" / "1.flac")
    with pytest.raises(SparsifyError, match=r"anna/1\.flac"):
        disk.crop(corpus.utterances[0], 0.99, 8000)
