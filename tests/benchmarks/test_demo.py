"""The demonstration's parts that do not train: its own folder, and its held-out speakers."""

import pytest

from sparsify.benchmarks import demo
from sparsify.verification.trials import read_trials


def test_it_replaces_its_own_folder_and_no_other(tmp_path):
    own, foreign = tmp_path / "demo", tmp_path / "precious"
    demo.Demo(own)
    (own / "left over").touch()
    demo.Demo(own)
    assert [path.name for path in own.iterdir()] == [demo.COMMANDS_FILE]
    foreign.mkdir()
    (foreign / "thesis").touch()
    with pytest.raises(SystemExit, match="not of an earlier demo"):
        demo.Demo(foreign)
    assert (foreign / "thesis").exists()


def test_held_out_speakers_come_with_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SPEAKERS", 2)
    monkeypatch.setattr(demo, "UTTERANCES", 2)
    audio, path = demo.Demo(tmp_path / "demo").held_out_speakers()
    trials = read_trials(path)
    assert trials.targets.sum() == 2
    assert len(trials) == 6
    assert all((audio / name).is_file() for name in trials.utterances)
