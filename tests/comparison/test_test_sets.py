"""Test sets are checked before anything is trained."""

import pytest

from sparsify.comparison.test_sets import TestSet
from sparsify.errors import SparsifyError


def test_a_test_set_is_checked_whole_before_the_first_training(tmp_path, caplog):
    for name in "abc":
        (tmp_path / f"{name}.wav").touch()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.wav").touch()

    def check(lines, speakers=None):
        (tmp_path / "trials.txt").write_text(lines)
        if speakers is not None:
            (tmp_path / "speakers").write_text(speakers)
            speakers = str(tmp_path / "speakers")
        test = TestSet(
            name="clean",
            trials=str(tmp_path / "trials.txt"),
            audio_root=str(tmp_path),
            speakers=speakers,
        )
        test.check()
        return test

    with pytest.raises(SparsifyError, match=r"test set 'clean': 1 of the 3 utterances .* no file"):
        check("1 a b\n0 a absent\n")
    # Nobody knows who speaks, so there are no intervals, which is no reason to refuse.
    assert check("1 a b\n0 a c\n").speaker_problem() is not None
    assert "test set 'clean': no confidence intervals: the speaker of utterance 'a'" in caplog.text
    told = check("1 a b\n0 a c\n", "a one\nb one\nc two\n")
    assert told.speaker_problem() is None
    with pytest.raises(SparsifyError, match="test set 'clean': 1 of 2 trials contradict"):
        check("1 a b\n0 a c\n", "a one\nb two\nc two\n")
