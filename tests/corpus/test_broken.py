"""One broken file ends no training; many do, and so does the first under strict."""

import logging
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from sparsify.corpus.broken import BrokenFiles
from sparsify.corpus.cache import load_audio
from sparsify.corpus.layouts import load_corpus
from sparsify.corpus.prepare import prepare
from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import parse_recipe
from sparsify.training.batches import training_batches
from sparsify.training.data import load_data
from sparsify.training.observer import Observer
from sparsify.training.trainer import train

ERROR = SparsifyError("cannot read a.wav")


def settings(**training):
    training = {"steps": 8, "batch_size": 4, "workers": 0} | training
    content = {
        "data": {"crop_seconds": 0.5},
        "augment": {"speeds": (), "probability": 0},
        "training": training,
    }
    return parse_recipe(content, "test")


@pytest.fixture
def speech(tmp_path):
    """Four speakers of four constant utterances, whose crops tell which they come from."""
    for number in range(16):
        path = tmp_path / f"s{number // 4}" / f"{number:02d}.flac"
        path.parent.mkdir(exist_ok=True)
        sf.write(path, np.full(16000, number / 100), 16000)
    return tmp_path


def on_demand(folder, strict=False):
    return load_audio(load_corpus(folder), 16000, strict=strict, budget=0)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])  # its header stays readable


def stacked(batches):
    waveforms, labels = zip(*batches, strict=True)
    return torch.cat(waveforms), torch.cat(labels)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_replaced_the_same_way_always(speech, workers, caplog):
    corpus, cache = on_demand(speech)
    expected, labels = stacked(training_batches(corpus, cache, settings()))
    truncate(speech / "s1" / "05.flac")
    _, cache = on_demand(speech)
    found, same = stacked(training_batches(corpus, cache, settings(workers=workers)))
    assert torch.equal(labels, same)
    from_broken = (expected[:, 0] * 100).round() == 5
    assert from_broken.sum() == 2
    assert torch.equal(found[~from_broken], expected[~from_broken])
    assert torch.equal((found[from_broken, 0] * 100).round(), torch.full((2,), 6.0))


def test_it_is_logged_once_by_all_processes_together(speech, capfd):
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("here: %(message)s"))
    logger = logging.getLogger("sparsify")
    logger.addHandler(handler)
    try:
        corpus, cache = on_demand(speech)
        truncate(speech / "s1" / "05.flac")
        list(training_batches(corpus, cache, settings(workers=2, steps=40)))
    finally:
        logger.removeHandler(handler)
    assert capfd.readouterr().err.count("here: skipping an utterance") == 1
    assert cache.broken.count == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_strict_stops_at_the_first(speech, workers):
    corpus, cache = on_demand(speech, strict=True)
    truncate(speech / "s1" / "05.flac")
    with pytest.raises(SparsifyError, match=r"05\.flac"):
        list(training_batches(corpus, cache, settings(workers=workers)))


def test_too_many_are_an_error():
    broken = BrokenFiles(1000)
    for number in range(20):
        broken.report(f"key {number}", ERROR)
        broken.report(f"key {number}", ERROR)
    assert broken.count == 20
    assert "key 7" in broken
    assert "key 20" not in broken
    with pytest.raises(SparsifyError, match=r"21 utterances cannot be decoded.*--verify"):
        broken.report("key 20", ERROR)


def test_validation_does_without_its_broken_files(speech, monkeypatch):
    monkeypatch.setattr(load_audio, "__kwdefaults__", load_audio.__kwdefaults__ | {"budget": 0})
    manifest = speech / "list.csv"
    prepare(speech, manifest, verify=True)
    changes = {"path": str(manifest), "validation_speakers": 2}
    recipe = parse_recipe(settings().model_dump() | {"data": changes}, "test")
    before = load_data(recipe)
    truncate(next(p for p in speech.rglob("*.flac") if p.parent.name not in before.train.speakers))
    after = load_data(recipe)
    assert (len(before.validation.features), len(after.validation.features)) == (8, 7)
    assert len(after.validation.trials.utterances) == 7
    with pytest.raises(SparsifyError, match="cannot read"):
        load_data(recipe, strict=True)


def test_processes_of_a_machine_share_the_memory(speech, monkeypatch):
    """16 s of speech, 512,000 bytes."""
    budget = {"budget": 600_000}
    monkeypatch.setattr(load_audio, "__kwdefaults__", load_audio.__kwdefaults__ | budget)
    changes = {"path": str(speech), "validation_speakers": 2}
    recipe = parse_recipe(settings().model_dump() | {"data": changes}, "test")
    alone, together = load_data(recipe), load_data(recipe, neighbours=2)
    some = alone.train.utterances[0]
    some.path.unlink()
    assert len(alone.cache.waveform(some)) == 16000
    with pytest.raises(SparsifyError, match="no such file"):
        together.cache.waveform(some)


@pytest.fixture
def small_run(speech, monkeypatch):
    """The recipe of a run that decodes on demand, and a file of a training speaker."""
    monkeypatch.setattr(load_audio, "__kwdefaults__", load_audio.__kwdefaults__ | {"budget": 0})
    rng = np.random.default_rng(0)
    for path in speech.rglob("*.flac"):
        sf.write(path, 0.1 * rng.standard_normal(16000), 16000)
    content = settings(validate_every=2).model_dump() | {
        "data": {"path": str(speech), "validation_speakers": 2, "crop_seconds": 0.5},
        "method": "dense",
        "model": {
            "name": "ecapa-tdnn",
            "options": {"channels": 16, "aggregation_channels": 32, "embedding_dim": 16},
        },
    }
    recipe = parse_recipe(content, "test")
    return recipe, load_data(recipe).train.utterances[2].path


class Breaks(Observer):
    """Truncates a file after a step, and interrupts the run after another."""

    def __init__(self, file, step, last=None):
        self.file, self.step, self.last = file, step, last

    def stepped(self, step):
        if step == self.step:
            truncate(self.file)
        if step == self.last:
            raise KeyboardInterrupt


def test_the_summary_counts_what_training_found_broken(small_run, tmp_path, caplog):
    recipe, file = small_run
    assert train(recipe, tmp_path / "run", observer=Breaks(file, 1))["skipped"] == 1
    assert caplog.text.count("skipping an utterance") == 1


def test_the_mean_embedding_finds_broken_files_too(small_run, tmp_path):
    recipe, file = small_run
    breaks = Breaks(file, recipe.training.steps)
    assert train(recipe, tmp_path / "run", observer=breaks)["skipped"] == 1


def test_a_resumed_run_remembers_what_was_broken(small_run, tmp_path):
    recipe, file = small_run
    whole = file.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", observer=Breaks(file, 1, last=7))
    file.write_bytes(whole)
    assert train(recipe, tmp_path / "run", resume=True)["skipped"] == 1


@pytest.mark.parametrize("verified", [False, True])
def test_what_is_broken_from_the_start_is_left_out_whatever_the_memory(speech, verified):
    file = speech / "s1" / "05.flac"
    path = speech
    if verified:
        prepare(speech, path := speech / "list.jsonl", verify=True)
    truncate(file)
    held, _ = load_audio(load_corpus(path), 16000)
    demanded, cache = load_audio(load_corpus(path), 16000, budget=0)
    # A manifest that says that all is well is believed, until the file is met.
    assert len(held.utterances) == 15
    assert (demanded == held) is not verified
    assert cache.broken.count == 0


def wait_until_at_rest(pid):
    """A loader that dies with a lock of PyTorch's in its hands would have everybody wait."""
    before = None
    while before != (before := Path(f"/proc/{pid}/stat").read_text().split()[13:15]):
        time.sleep(0.1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_loader_process_is_explained(speech, workers):
    batches = training_batches(*on_demand(speech), settings(workers=workers, steps=10_000))
    next(batches)
    for process in multiprocessing.active_children():
        wait_until_at_rest(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(SparsifyError, match=r"memory.*training\.workers=1.*--resume"):
        list(batches)


def test_a_corpus_travels_to_spawned_workers(speech):
    corpus = load_corpus(speech)
    assert pickle.loads(pickle.dumps(corpus)) == corpus
