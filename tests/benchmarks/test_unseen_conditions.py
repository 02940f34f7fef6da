"""The test sets under unseen conditions: all files, their rates, and the same every time."""

import pytest
import soundfile as sf

from sparsify.augment.conditions import RATE
from sparsify.benchmarks.unseen_conditions import write_conditions
from sparsify.corpus.synthetic import write_synthetic
from sparsify.errors import SparsifyError


@pytest.fixture
def speech(tmp_path):
    write_synthetic(tmp_path / "test", 2, 1, seed=1)
    write_synthetic(tmp_path / "voices", 6, 1, seed=2)
    return tmp_path


def test_test_sets_with_the_names_of_the_original(speech, tmp_path):
    write_conditions(speech / "test", speech / "voices", tmp_path / "a")
    write_conditions(speech / "test", speech / "voices", tmp_path / "b")
    names = {p.relative_to(speech / "test").with_suffix("") for p in speech.rglob("test/*/*.*")}
    assert names
    for condition, rate in (("room", RATE), ("babble", RATE), ("telephone", RATE // 2)):
        files = sorted(p for p in (tmp_path / "a" / condition).rglob("*.*"))
        assert {p.relative_to(tmp_path / "a" / condition).with_suffix("") for p in files} == names
        for file in files:
            assert sf.info(file).samplerate == rate
            again = tmp_path / "b" / file.relative_to(tmp_path / "a")
            assert file.read_bytes() == again.read_bytes()


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SparsifyError, match="no audio"):
        write_conditions(tmp_path, tmp_path, tmp_path / "out")
