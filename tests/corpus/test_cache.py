from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.audio.samples import from_int16, to_int16
from sparsify.corpus.cache import AudioCache, load_audio
from sparsify.corpus.corpus import Corpus
from sparsify.corpus.layouts import load_corpus
from sparsify.corpus.prepare import prepare
from sparsify.corpus.utterances import Utterance
from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import parse_recipe
from sparsify.training.batches import training_batches

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


@pytest.fixture
def odd_folder(tmp_path):
    """Two speakers, each with audio of every kind that decoding on demand could get wrong."""
    rng = np.random.default_rng(1)

    def noise(seconds, rate, channels=1, level=0.1):
        return level * rng.standard_normal((round(seconds * rate), channels))

    kinds = {
        "clipped.wav": (noise(1.2, RATE, level=0.7), RATE, {"subtype": "FLOAT"}),
        "clipped.ogg": (noise(1.2, RATE, level=0.5), RATE, {}),
        "clipped.mp3": (noise(1.2, RATE, level=0.5), RATE, {}),
        "fine.wav": (noise(1.2, RATE), RATE, {"subtype": "PCM_24"}),
        "plain.flac": (noise(1.2, RATE), RATE, {}),
        "loud.flac": (noise(1.2, 44100, level=0.4), 44100, {}),
        "odd.wav": (noise(1.2, 16001, level=0.4), 16001, {}),
        "short.flac": (noise(0.4, 8000), 8000, {}),
        "two.wav": (noise(1.2, RATE, channels=2), RATE, {}),
        "three.flac": (noise(1.2, 22050, channels=3), 22050, {}),
        "silent.wav": (np.zeros(RATE), RATE, {}),
        "cut.flac": (noise(1.2, RATE), RATE, {}),
        "cut.mp3": (noise(3.0, RATE), RATE, {}),
        "little.mp3": (noise(6.0, RATE), RATE, {}),
    }
    for speaker in ("anna", "bert"):
        (tmp_path / speaker).mkdir()
        for name, (samples, rate, kwargs) in kinds.items():
            path = tmp_path / speaker / name
            sf.write(path, samples, rate, **kwargs)
            if name.startswith("cut"):
                truncate(path)
            if name.startswith("little"):
                path.write_bytes(path.read_bytes()[:-50])  # tolerated
    return tmp_path


def same_batches(first, second):
    content = {
        "data": {"crop_seconds": 0.5},
        "augment": {"speeds": (1.0, 0.9), "probability": 0.5},
        "training": {"steps": 12, "batch_size": 8, "workers": 0},
    }
    recipe = parse_recipe(content, "test")
    batches = [list(training_batches(*data, recipe)) for data in (first, second)]
    return all(
        torch.equal(waveforms, others) and torch.equal(labels, other_labels)
        for (waveforms, labels), (others, other_labels) in zip(*batches, strict=True)
    )


def test_the_memory_budget_changes_nothing(odd_folder, caplog):
    found = load_corpus(odd_folder)
    held = load_audio(found, RATE)
    demanded = load_audio(found, RATE, budget=0)
    assert held[0] == demanded[0]
    assert {s.path.name for s in held[0].skipped} == {"cut.flac", "cut.mp3"}
    for utterance in held[0].utterances:
        whole = held[1].waveform(utterance)
        np.testing.assert_array_equal(demanded[1].waveform(utterance), whole)
        for position in (0.0, 0.37, 0.999):
            crop = held[1].crop(utterance, position, 10_000)
            np.testing.assert_array_equal(demanded[1].crop(utterance, position, 10_000), crop)
    assert same_batches(held, demanded)
    messages = [r.getMessage() for r in caplog.records if "silence" in r.getMessage()]
    assert len(messages) == 2  # one for each time it was loaded
    assert "in 2 utterances, such as" in messages[0]
    assert "anna/silent.wav" in messages[0]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_verified_manifest_is_believed_and_changes_nothing(odd_folder, suffix, monkeypatch):
    prepare(odd_folder, odd_folder / f"list{suffix}", verify=True)
    found = load_corpus(odd_folder / f"list{suffix}")
    assert found.utterances.verified
    held = load_audio(found, RATE)
    monkeypatch.setattr("sparsify.corpus.cache.in_threads", None)  # nothing is decoded
    demanded = load_audio(found, RATE, budget=0)
    assert held[0] == demanded[0]
    assert same_batches(held, demanded)


def test_processes_of_a_machine_change_nothing(odd_folder):
    found = load_corpus(odd_folder)
    budget = int(found.seconds * RATE * 2 * 1.5)  # enough for one
    alone = load_audio(found, RATE, budget=budget, neighbours=1)
    together = load_audio(found, RATE, budget=budget, neighbours=2)
    assert same_batches(alone, together)


def test_durations_that_are_not_true_do_not_fill_the_memory(odd_folder):
    corpus = load_corpus(odd_folder)
    lying = replace(corpus.utterances, seconds=np.full(len(corpus.utterances), 0.3))
    budget = int(0.3 * len(lying) * RATE * 2)
    corpus, cache = load_audio(Corpus(lying), RATE, budget=budget)
    expected = load_audio(load_corpus(odd_folder), RATE)
    assert same_batches((corpus, cache), expected)
    corpus.utterances[0].path.unlink()
    with pytest.raises(SparsifyError, match="no such file"):
        cache.waveform(corpus.utterances[0])


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
