import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.corpus.layouts import load_corpus
from sparsify.corpus.manifest import read_manifest, write_manifest
from sparsify.corpus.utterances import Utterance, Utterances
from sparsify.errors import SparsifyError

SUFFIXES = pytest.mark.parametrize("suffix", [".jsonl", ".csv"])

# Whatever a file system takes, bytes that are no UTF-8 included; and no command.
characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0/|")
names = st.text(characters, min_size=1).filter(lambda name: name not in (".", ".."))
names |= st.binary(min_size=1, max_size=5).map(
    lambda raw: "x" + raw.translate(None, b"\0/|").decode("utf-8", "surrogateescape")
)
seconds = st.floats(0.3, 1e5)


@st.composite
def utterances(draw, folder):
    path = folder.joinpath(*draw(st.lists(names, min_size=1, max_size=3)))
    start = draw(st.just(0.0) | seconds)
    end = draw(st.none() | seconds.map(lambda length: start + length))
    size = draw(st.none() | st.integers(1, 2**40))
    offset = 0 if size is None else draw(st.integers(0, 2**45))
    return Utterance(draw(names), draw(names), path, draw(seconds), start, end, offset, size)


@SUFFIXES
@settings(max_examples=40)
@given(data=st.data())
def test_a_manifest_says_what_it_was_told(tmp_path_factory, suffix, data):
    folder = tmp_path_factory.getbasetemp()
    places = st.sampled_from([folder / "below", Path("/else where")])
    listed = data.draw(
        st.lists(
            places.flatmap(utterances), min_size=1, max_size=5, unique_by=lambda each: each.key
        )
    )
    path = folder / f"manifest{suffix}"
    write_manifest(Utterances.of(listed), path)
    assert list(read_manifest(path).utterances) == listed


def read(tmp_path, text, suffix=".jsonl"):
    path = tmp_path / f"list{suffix}"
    path.write_text(text, "utf-8")
    return list(read_manifest(path).utterances)


def test_both_names_of_the_columns_and_a_byte_order_mark(tmp_path):
    for header in ("speaker,path", "spk,wav", "\ufeffnote,spk,wav"):
        values = "about,anna,a/1.wav" if "note" in header else "anna,a/1.wav"
        (found,) = read(tmp_path, f"{header}\n{values}\n", ".csv")
        assert (found.key, found.speaker) == ("a/1.wav", "anna")
        assert found.path == tmp_path / "a" / "1.wav"
        assert math.isnan(found.seconds)


@pytest.mark.parametrize(
    "text", ['\n \n{"speaker": "a", "path": "1.wav"}\n', "\n\nspeaker,path\n\na,1.wav\n"]
)
def test_blank_lines_may_come_first(tmp_path, text):
    (tmp_path / "list").write_text(text)
    (utterance,) = read_manifest(tmp_path / "list").utterances
    assert (utterance.speaker, utterance.path) == ("a", tmp_path / "1.wav")


def test_stretches_and_members(tmp_path):
    common = {"speaker": 7, "path": "x"}
    rows = [
        {"start": 1, "end": 3.5},
        {"start": 2, "duration": 1.5},
        {"duration": 4},
        {"offset": 512, "bytes": 1000, "seconds": 3},
        {"key": "k", "bytes": 10},
    ]
    text = "".join(json.dumps(common | row) + "\n" for row in rows)
    found = read(tmp_path, text + "\n")
    assert [(u.key, u.start, u.end, u.offset, u.size) for u in found] == [
        ("x:1", 1, 3.5, 0, None),
        ("x:2", 2, 3.5, 0, None),
        ("x", 0, None, 0, None),
        ("x:512", 0, None, 512, 1000),
        ("k", 0, None, 0, 10),
    ]
    assert [u.seconds for u in found[:4]] == [2.5, 1.5, 4, 3]
    assert {u.speaker for u in found} == {"7"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no manifest"),
        ("\n", "no manifest"),
        ("name,path\na,b\n", "no manifest"),
        ("speaker,path\n", "lists no utterances"),
        ("speaker,path\na,\n", "line 2: no 'path'"),
        ("speaker,path\n,b\n", "line 2: no 'speaker'"),
        ("speaker,path\na\n", "line 2: no 'path'"),
        ("speaker,path\na,cat b |\n", r"line 2: 'cat b \|' is a command"),
        ("speaker,path,seconds\na,b,2\na,b,long\n", "line 3: seconds is 'long', not a number"),
        ("speaker,path,seconds\na,b,-1\n", "seconds is '-1', not a number from 0 up"),
        ("speaker,path,start,end\na,b,2,1\n", "the end 1 s is not after the start 2 s"),
        ("speaker,path,offset\na,b,2\n", "needs the number of bytes"),
        ("speaker,path\na,b\na,b\n", "two utterances are called 'b'"),
        ('{"speaker": "a"}\n', "line 1: no 'path'"),
        ('{"speaker": "a", "path": ["b"]}\n', "line 1: no 'path'"),
        ('{"speaker": "a", "path": "b", "seconds": NaN}\n', "line 1 is not valid JSON: NaN"),
        ('{"speaker": "a", "path": "b"}\n{"speaker"\n', "line 2 is not valid JSON"),
        ('{"speaker": "a", "path": "b"}\n7\n', "line 2: not a JSON object"),
        ('{"speaker": "a", "path": "b\\u0000"}\n', "line 1: the path holds a zero byte"),
        ('{"speaker": "\\ud800", "path": "b"}\n', "line 1: .*surrogates"),
        ('{"speaker": "a", "path": "b", "key": [1]}\n', "line 1: key is .*, not a text"),
        ("speaker,path,start\na,b,1e300\n", "line 2: start is '1e300', not a number from 0 up to"),
        ("speaker,path,bytes\na,b,1e300\n", "line 2: bytes is '1e300', not a number from 0 up to"),
        ('{"speaker": "a", "path": "b", "seconds": 1e999}\n', "line 1 is not valid JSON"),
        ('{"speaker": "a", "path": "b", "seconds": 1e300}\n', "line 1: seconds is 1e"),
        ('{"speaker": ' + "7" * 5000 + "}\n", "line 1 is not valid JSON: a number of 5000 digits"),
        ('{"speaker": ' + "[" * 100_000 + "}\n", "line 1 is not valid JSON: more than 64 levels"),
        ('{"speaker": "a", "path": "' + "b" * 2**20 + '"}\n', "line 1: longer than 1024 KiB"),
        ("speaker,path\na," + "b" * 2**18 + "\n", "line 2: field larger than field limit"),
        ('{"speaker": "a", "path": "\\ud800"}\n', "line 1: .*surrogates"),
    ],
)
def test_mistakes_are_named(tmp_path, text, problem):
    with pytest.raises(SparsifyError, match=problem):
        read(tmp_path, text)


def test_keys_tell_places_apart(tmp_path):
    rows = "\n".join(f"a,b,{start},{start + 1}" for start in (10000.01, 10000.04, 0.1 + 0.2))
    listing = read(tmp_path, f"speaker,path,start,end\n{rows}\n")
    assert [u.key for u in listing] == ["b:10000.01", "b:10000.04", "b:0.3"]


def test_what_is_no_manifest_is_not_read_to_its_end(tmp_path):
    (tmp_path / "tar.csv").touch()
    os.truncate(tmp_path / "tar.csv", 1 << 40)
    with pytest.raises(SparsifyError, match="line 1: longer than 1024 KiB"):
        read_manifest(tmp_path / "tar.csv")


def test_the_name_says_how_to_write(tmp_path):
    listed = Utterances.of([Utterance("a", "b", tmp_path / "c", 1.0)])
    with pytest.raises(SparsifyError, match=r"list\.txt' must end in \.jsonl or \.csv"):
        write_manifest(listed, tmp_path / "list.txt")


@SUFFIXES
def test_a_manifest_moves_with_its_audio(tmp_path, suffix):
    for name in ("a/1", "a/2", "b/1", "b/2"):
        path = tmp_path / "here" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, np.zeros(16000), 16000)
    corpus = load_corpus(tmp_path / "here", strict=True)
    write_manifest(corpus.utterances, tmp_path / "here" / f"list{suffix}")
    (tmp_path / "here").rename(tmp_path / "there")
    moved = load_corpus(tmp_path / "there" / f"list{suffix}", strict=True)
    assert [u.key for u in moved.utterances] == [u.key for u in corpus.utterances]
    assert all(u.path.is_file() for u in moved.utterances)


def test_short_utterances_of_a_manifest_are_skipped(tmp_path):
    rows = "".join(f"{s}{n},{s},{__file__},1\n" for s in "ab" for n in (1, 2))
    path = tmp_path / "list.csv"
    path.write_text(f"key,speaker,path,seconds\n{rows}short,a,{__file__},0.29\n")
    corpus = load_corpus(path)
    assert [u.key for u in corpus.utterances] == ["a1", "a2", "b1", "b2"]
    assert [s.reason for s in corpus.skipped] == ["shorter than 0.3 s"]
