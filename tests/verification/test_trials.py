"""Trial lists: reading, writing, refusing, and pairing utterances."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import SparsifyError
from sparsify.verification.embedding import locate
from sparsify.verification.trials import (
    make_trials,
    read_speakers,
    read_trials,
    speaker_numbers,
    write_trials,
)


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
        "a/1.wav a/2.wav 1\na/1.wav b/1.wav 0\n",
    ],
)
def test_known_forms(tmp_path, text):
    path = tmp_path / "trials.txt"
    path.write_bytes(text.encode())
    trials = read_trials(path)
    assert named(trials) == EXPECTED
    assert trials.utterances == ("a/1.wav", "a/2.wav", "b/1.wav")


NAMED_LIKE_LABELS = "0 1 1\n1 0 0\n0 1 0\n"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("first", [(False, "1", "1"), (True, "0", "0"), (False, "1", "0")]),
        ("last", [(True, "0", "1"), (False, "1", "0"), (False, "0", "1")]),
    ],
)
def test_a_list_of_two_forms_needs_to_be_told_its_own(tmp_path, label, expected):
    path = tmp_path / "trials.txt"
    path.write_text(NAMED_LIKE_LABELS)
    with pytest.raises(SparsifyError, match="--trial-label first or --trial-label last"):
        read_trials(path)
    assert named(read_trials(path, label=label)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 1 1\n1 0 0\nutt 0 1\n", [(True, "0", "1"), (False, "1", "0"), (True, "utt", "0")]),
        ("0 1 1\n1 utt target\n", [(False, "1", "1"), (True, "utt", "target")]),
        ("0 1 target\nutt 0 nontarget\n", [(True, "0", "1"), (False, "utt", "0")]),
    ],
)
def test_one_line_decides_the_form_of_all(tmp_path, text, expected):
    path = tmp_path / "trials.txt"
    path.write_text(text)
    assert named(read_trials(path)) == expected


@given(
    st.lists(
        st.tuples(st.booleans(), *[st.sampled_from(["0", "1", "target", "a", "b"])] * 2), min_size=1
    ),
    st.sampled_from([("0", "1"), ("nontarget", "target")]),
    st.sampled_from(["first", "last"]),
)
def test_every_list_reads_as_it_was_meant_or_is_refused(tmp_path_factory, trials, labels, place):
    def line(target, *names):
        return " ".join([labels[target], *names] if place == "first" else [*names, labels[target]])

    path = tmp_path_factory.getbasetemp() / "trials.txt"
    path.write_text("\n".join(line(*trial) for trial in trials))
    assert named(read_trials(path, label=place)) == trials
    other = {"first": "last", "last": "first"}[place]
    try:
        read_trials(path, label=other)
    except SparsifyError:
        assert named(read_trials(path)) == trials
    else:
        with pytest.raises(SparsifyError, match="--trial-label"):
            read_trials(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 a b\n0 a\n", r"trials.txt:2: 2 fields instead of 3"),
        ("1 a b\n\n1 a b c\n", r"trials.txt:3: 4 fields instead of 3"),
        ("yes a b\n", r"trials.txt:1: no label"),
        ("1 a b\na b 1\n", r"trials.txt:2: the lines before have the label 1\|0 first"),
        ("1 a b\ntarget a b\n", r"trials.txt:2: the lines before have the label 1\|0 first"),
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


@pytest.fixture
def cnceleb(tmp_path):
    """Models enrolled with one and with two utterances, as CN-Celeb and spk2utt name them."""
    (tmp_path / "enroll.lst").write_text(
        "id1-enroll enroll/id1-enroll.wav\nid2-enroll id2/a.flac id2/b.flac\n"
    )
    (tmp_path / "trials.lst").write_text(
        "id1-enroll test/id1-sing.wav 1\nid2-enroll test/id1-sing.wav 0\nid2-enroll id2/a.flac 1\n"
    )
    return tmp_path


def test_models_with_several_utterances(cnceleb):
    trials = read_trials(cnceleb / "trials.lst", cnceleb / "enroll.lst")
    names = ("enroll/id1-enroll.wav", "id2/a.flac", "id2/b.flac", "test/id1-sing.wav")
    assert trials.utterances == names
    assert trials.models == ((0,), (1, 2))
    assert trials.enrolment.tolist() == [4, 5, 5]
    assert trials.test.tolist() == [3, 3, 1]
    assert trials.targets.tolist() == [True, False, True]


def test_lines_of_one_model_add_up(cnceleb):
    (cnceleb / "map").write_text("id1-enroll x.wav\nid2-enroll y.wav\n\nid1-enroll z.wav\n")
    trials = read_trials(cnceleb / "trials.lst", cnceleb / "map")
    assert [[trials.utterances[row] for row in model] for model in trials.models] == [
        ["x.wav", "z.wav"],
        ["y.wav"],
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id1-enroll a.wav\n", r"trials\.lst:2: model 'id2-enroll' was not enrolled"),
        ("id1-enroll\n", r"bad:1: model 'id1-enroll' without an utterance"),
        ("", "enrolment list .* is empty"),
    ],
)
def test_bad_enrolments_are_refused(cnceleb, text, sentence):
    (cnceleb / "bad").write_text(text)
    with pytest.raises(SparsifyError, match=sentence):
        read_trials(cnceleb / "trials.lst", cnceleb / "bad")
    with pytest.raises(SparsifyError, match="no enrolment list"):
        read_trials(cnceleb / "trials.lst", cnceleb / "absent")


def test_speakers_are_first_folders(tmp_path):
    path = tmp_path / "trials.txt"
    path.write_text("1 id1/v/1.wav id1/w/2.wav\n0 id2/v/1.wav id1/v/1.wav\n")
    enrolled, test = speaker_numbers(read_trials(path))
    assert (enrolled == test).tolist() == [True, False]
    assert enrolled[0] == test[0] == test[1]


def test_speakers_from_a_list(cnceleb):
    (cnceleb / "utt2spk").write_text(
        "enroll/id1-enroll.wav id1\nid2/a.flac id2\nid2/b.flac id2\ntest/id1-sing.wav id1\n"
    )
    trials = read_trials(cnceleb / "trials.lst", cnceleb / "enroll.lst")
    enrolled, test = speaker_numbers(trials, read_speakers(cnceleb / "utt2spk"))
    assert (enrolled == test).tolist() == trials.targets.tolist()
    with pytest.raises(SparsifyError, match=r"^1 of 3 trials contradict.*a target trial.*id1-sing"):
        speaker_numbers(trials)


def test_speakers_that_are_unknown_or_mixed_are_refused(cnceleb, tmp_path):
    (tmp_path / "flat.txt").write_text("1 a.wav b.wav\n0 a.wav c.wav\n")
    with pytest.raises(SparsifyError, match=r"utterance 'a\.wav' is not known: give --speakers"):
        speaker_numbers(read_trials(tmp_path / "flat.txt"))
    (tmp_path / "mixed").write_text("id1-enroll a/1 b/1\nid2-enroll b/1\n")
    with pytest.raises(SparsifyError, match="another speaker"):
        speaker_numbers(read_trials(cnceleb / "trials.lst", tmp_path / "mixed"))
    (tmp_path / "bad").write_text("a b c\n")
    with pytest.raises(SparsifyError, match=r"bad:1: 3 fields instead of 2"):
        read_speakers(tmp_path / "bad")
    (tmp_path / "twice").write_text("a b\nc d\na b\na d\n")
    with pytest.raises(SparsifyError, match=r"twice:4: 'a' is of 'd' here and of 'b' before"):
        read_speakers(tmp_path / "twice")


def test_names_are_apart_by_blanks_and_tabs_alone(tmp_path):
    (tmp_path / "trials").write_text("1\ta\u00a0b  c\u3000d\u2028\r\n\n0 c x \n")
    assert read_trials(tmp_path / "trials").utterances == ("a\u00a0b", "c\u3000d\u2028", "c", "x")


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 3000, "a\0b", "../" * 2000])
def test_names_that_no_file_can_have_are_missing(tmp_path, name):
    (tmp_path / "trials").write_text(f"1 {name} {name}\n")
    with pytest.raises(SparsifyError, match="have no file") as caught:
        locate(read_trials(tmp_path / "trials").utterances, tmp_path)
    assert len(str(caught.value)) < 600
