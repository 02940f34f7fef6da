"""Trial lists: reading, writing, refusing, and pairing utterances."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import SparsifyError
from sparsify.verification.trials import make_trials, read_trials, write_trials


def named(trials):
    names = trials.utterances
    return [
        (bool(target), names[first], names[second])
        for target, first, second in zip(trials.targets, trials.enrolment, trials.test, strict=True)
    ]


EXPECTED = [(True, "a/1.wav", "a/2.wav"), (False, "a/1.wav", "b/1.wav")]


@pytest.mark.parametrize(
    "text",
    [
        "1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n",
        "1 a/1.wav a/2.wav\r\n0\ta/1.wav   b/1.wav",
        "target a/1.wav a/2.wav\nnontarget a/1.wav b/1.wav\n",
        "a/1.wav a/2.wav target\n\na/1.wav b/1.wav nontarget\n",
    ],
)
def test_known_forms(tmp_path, text):
    path = tmp_path / "trials.txt"
    path.write_bytes(text.encode())
    trials = read_trials(path)
    assert named(trials) == EXPECTED
    assert trials.utterances == ("a/1.wav", "a/2.wav", "b/1.wav")


def test_a_trailing_label_wins_over_an_utterance_named_like_one(tmp_path):
    path = tmp_path / "trials.txt"
    path.write_text("1 utt nontarget\n")
    assert named(read_trials(path)) == [(False, "1", "utt")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 a b\n0 a\n", r"trials.txt:2: 2 fields instead of 3"),
        ("1 a b\n\n1 a b c\n", r"trials.txt:3: 4 fields instead of 3"),
        ("yes a b\n", r"trials.txt:1: no label"),
        ("\n \n", "is empty"),
    ],
)
def test_malformed_lists_are_refused_by_line(tmp_path, text, sentence):
    path = tmp_path / "trials.txt"
    path.write_text(text)
    with pytest.raises(SparsifyError, match=sentence):
        read_trials(path)


def test_missing_and_binary_lists_are_refused(tmp_path):
    with pytest.raises(SparsifyError, match="no trial list"):
        read_trials(tmp_path / "absent.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SparsifyError, match="not UTF-8"):
        read_trials(tmp_path / "binary")


def test_writing_and_reading_again(tmp_path):
    utterances = [f"{speaker}/{i}.wav" for speaker in "abc" for i in range(3)]
    trials = make_trials(utterances, [name[0] for name in utterances], seed=0)
    write_trials(trials, tmp_path / "trials.txt")
    assert named(read_trials(tmp_path / "trials.txt")) == named(trials)


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=25),
    st.integers(1, 30),
    st.integers(0, 4),
    st.integers(0, 3),
)
def test_pairs_are_right_and_as_many_as_asked(speakers, max_targets, ratio, seed):
    every = list(combinations(range(len(speakers)), 2))
    same = {frozenset(pair) for pair in every if speakers[pair[0]] == speakers[pair[1]]}
    other = {frozenset(pair) for pair in every} - same
    utterances = [str(i) for i in range(len(speakers))]
    if not same or not other:
        with pytest.raises(SparsifyError, match="two speakers"):
            make_trials(utterances, speakers, seed)
        return
    trials = make_trials(
        utterances, speakers, seed, max_targets=max_targets, nontargets_per_target=ratio
    )
    pairs = [
        frozenset(p) for p in zip(trials.enrolment.tolist(), trials.test.tolist(), strict=True)
    ]
    targets = [pair for pair, target in zip(pairs, trials.targets, strict=True) if target]
    assert len(set(pairs)) == len(pairs)
    assert set(targets) <= same
    assert set(pairs) - set(targets) <= other
    assert len(targets) == min(max_targets, len(same))
    assert len(pairs) - len(targets) == min(ratio * len(targets), len(other))


def test_the_seed_decides():
    speakers = np.repeat(np.arange(8), 6).tolist()
    utterances = [str(i) for i in range(len(speakers))]
    first, again, other = (make_trials(utterances, speakers, seed) for seed in (1, 1, 2))
    assert named(first) == named(again)
    assert named(first) != named(other)
