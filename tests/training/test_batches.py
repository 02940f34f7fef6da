import logging
import subprocess
import sys
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from sparsify.corpus.cache import AudioCache, load_audio
from sparsify.corpus.corpus import Corpus
from sparsify.corpus.layouts import load_corpus
from sparsify.corpus.synthetic import synthetic_corpus, write_synthetic
from sparsify.corpus.utterances import Utterance
from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import parse_recipe
from sparsify.training.batches import CropBatches, training_batches

SAMPLES = 8000


def recipe(seed=3, **training):
    return parse_recipe(
        {
            "seed": seed,
            "data": {"crop_seconds": 0.5},
            "training": {"steps": 6, "batch_size": 8, "workers": 0} | training,
        },
        "test",
    )


def plain(**training):
    """A recipe without augmentation."""
    changes = {"augment": {"speeds": (), "probability": 0}}
    return parse_recipe(recipe(**training).model_dump() | changes, "test")


@pytest.fixture(scope="module")
def voices():
    return synthetic_corpus(3, 3, seed=0)


def constant_corpus(speakers, utterances):
    """Every sample of an utterance is its number, so that a crop tells where it comes from."""
    listed, recordings = [], {}
    for number in range(speakers * utterances):
        speaker = f"speaker-{number // utterances}"
        listed.append(Utterance(f"{speaker}/{number}", speaker, None, 1.0))
        recordings[listed[-1].key] = np.full(16000, number, dtype=np.int16)
    return Corpus(tuple(listed)), AudioCache(16000, recordings)


def assert_equal(batches, others):
    for (waveforms, labels), (other_waveforms, other_labels) in zip(batches, others, strict=True):
        assert torch.equal(waveforms, other_waveforms)
        assert torch.equal(labels, other_labels)


def test_shapes_and_types(voices):
    batches = list(training_batches(*voices, recipe()))
    assert len(batches) == 6
    for waveforms, labels in batches:
        assert waveforms.shape == (8, SAMPLES)
        assert waveforms.dtype == torch.float32
        assert waveforms.abs().max() <= 1
        assert labels.shape == (8,)
        assert labels.dtype == torch.int64


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(voices, workers):
    batches = training_batches(*voices, recipe())
    assert_equal(batches, training_batches(*voices, recipe(workers=workers)))


def test_resuming_changes_nothing(voices):
    batches = list(training_batches(*voices, recipe()))
    assert_equal(batches[4:], training_batches(*voices, recipe(), start_step=4))
    longer = training_batches(*voices, recipe(steps=60), start_step=2)
    assert_equal(batches[2:], islice(longer, 4))


def test_the_global_random_state_is_left_alone(voices):
    before = torch.get_rng_state()
    list(training_batches(*voices, recipe()))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_changes_everything(voices):
    (waveforms, _), (others, _) = (
        next(training_batches(*voices, recipe(seed=seed))) for seed in (0, 1)
    )
    assert (waveforms != others).any(dim=1).all()


@pytest.mark.parametrize(("speakers", "utterances", "size"), [(2, 3, 4), (5, 4, 3), (2, 2, 16)])
def test_every_epoch_is_a_permutation(speakers, utterances, size):
    corpus, cache = constant_corpus(speakers, utterances)
    total = speakers * utterances
    settings = plain(steps=total, batch_size=size)
    waveforms, labels = zip(*training_batches(corpus, cache, settings), strict=True)
    numbers = (torch.cat(waveforms)[:, 0] * 2**15).long()
    assert torch.equal(torch.cat(labels), numbers // utterances)
    epochs = numbers.reshape(size, total)
    assert all(sorted(epoch.tolist()) == list(range(total)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) > 1


def test_every_speed_makes_virtual_speakers():
    corpus, cache = constant_corpus(2, 3)
    changes = {"augment": {"speeds": (1.0, 0.9, 1.1), "probability": 0}}
    settings = parse_recipe(recipe(steps=60, batch_size=10).model_dump() | changes, "test")
    counts = Counter()
    for waveforms, labels in training_batches(corpus, cache, settings):
        middle = (waveforms[:, SAMPLES // 2] * 2**15).round().long()
        assert torch.equal(labels % 2, middle // 3)
        counts.update((labels // 2).tolist())
    assert sorted(counts) == [0, 1, 2]
    assert min(counts.values()) > 150


def test_the_label_names_the_speed():
    rate, speeds = 16000, (1.0, 0.9, 1.1)
    tone = np.round(8000 * np.sin(2 * np.pi * 1000 / rate * np.arange(rate))).astype(np.int16)
    listed = [Utterance(f"{s}/{u}", s, None, 1.0) for s in "ab" for u in "12"]
    cache = AudioCache(rate, {utterance.key: tone for utterance in listed})
    changes = {"augment": {"speeds": speeds, "probability": 0}}
    settings = parse_recipe(recipe(batch_size=16).model_dump() | changes, "test")
    waveforms, labels = next(training_batches(Corpus(tuple(listed)), cache, settings))
    assert len(set(labels.tolist())) == 6
    peaks = torch.fft.rfft(waveforms * torch.hann_window(SAMPLES)).abs().argmax(dim=1)
    expected = [1000 * speeds[label // 2] for label in labels.tolist()]
    assert (peaks * rate / SAMPLES).tolist() == pytest.approx(expected, abs=rate / SAMPLES)


def test_without_speeds_the_labels_are_the_speakers(voices):
    assert plain().speeds == (1.0,)
    labels = torch.cat([labels for _, labels in training_batches(*voices, plain())])
    assert set(labels.tolist()) == {0, 1, 2}


def test_crops_start_anywhere():
    ramp = np.arange(9000, dtype=np.int16)
    listed = [Utterance(f"{s}/{u}", s, None, 1.0) for s in "ab" for u in "12"]
    cache = AudioCache(16000, {utterance.key: ramp for utterance in listed})
    batches = training_batches(Corpus(tuple(listed)), cache, plain(batch_size=100))
    starts = torch.cat([waveforms[:, 0] for waveforms, _ in batches]) * 2**15
    assert starts.min() < 20
    assert starts.max() > 980
    assert starts.max() <= 1000


def test_on_demand_broken_files_are_replaced_and_logged_once(tmp_path, caplog):
    write_synthetic(tmp_path, 2, 3, seed=0)
    corpus, disk = load_audio(load_corpus(tmp_path), 16000, budget=0)
    for number in ("001", "002"):
        (tmp_path / "voice-000" / f"{number}.flac").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        batches = list(training_batches(corpus, disk, plain(batch_size=6)))
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == [0] * 18 + [1] * 18
    assert len(caplog.records) == 2
    assert {r.getMessage().split("voice-000/")[1][:8] for r in caplog.records} == {
        "001.flac",
        "002.flac",
    }


@pytest.mark.parametrize("workers", [0, 1])
def test_a_speaker_without_intact_files_is_one_sentence(tmp_path, workers):
    write_synthetic(tmp_path, 2, 2, seed=0)
    corpus, disk = load_audio(load_corpus(tmp_path), 16000, budget=0)
    for path in (tmp_path / "voice-001").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SparsifyError) as caught:
        list(training_batches(corpus, disk, plain(workers=workers)))
    assert str(caught.value) == (
        "no utterance of speaker voice-001 can be decoded: repair or remove them"
    )


def test_a_batch_by_itself_is_the_batch_of_the_sequence(voices):
    alone = CropBatches(*voices, recipe())[5]
    assert_equal([alone], training_batches(*voices, recipe(), start_step=5))


def test_processes_make_the_same_batch_together(voices):
    whole = training_batches(*voices, recipe())
    parts = [training_batches(*voices, recipe(), places=range(a, a + 4)) for a in (0, 4)]
    joined = (tuple(map(torch.cat, zip(*pair, strict=True))) for pair in zip(*parts, strict=True))
    assert_equal(whole, joined)


def test_large_margin_phase_has_longer_crops_and_no_virtual_speakers(voices):
    content = recipe().model_dump() | {
        "objective": {"large_margin": {"begin": 0.5, "crop_seconds": 0.9}},
        "augment": {"speeds": [0.9, 1.0]},
    }
    batches = list(training_batches(*voices, parse_recipe(content, "test")))
    assert [waveforms.shape[1] for waveforms, _ in batches] == [8000] * 3 + [14400] * 3
    assert torch.cat([labels for _, labels in batches[:3]]).min() < 3  # of the speed 0.9
    assert all(((labels >= 3) & (labels < 6)).all() for _, labels in batches[3:])
    assert_equal(batches, training_batches(*voices, parse_recipe(content, "test")))


def test_broken_noise_is_named(voices, tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    content = recipe().model_dump() | {"augment": {"noise": str(tmp_path), "probability": 1}}
    with pytest.raises(SparsifyError, match=r"bad\.wav"):
        next(training_batches(*voices, parse_recipe(content, "test")))


def test_a_worker_whose_parent_goes_says_nothing():
    """As multiprocessing reports a connection that ends while a batch is handed over."""
    program = (
        "import sys; from sparsify.training.batches import _prepare_worker;"
        " _prepare_worker(0); sys.excepthook(EOFError, EOFError('gone'), None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr == b""
