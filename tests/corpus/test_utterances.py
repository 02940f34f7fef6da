import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.corpus.corpus import Corpus
from sparsify.corpus.manifest import read_manifest
from sparsify.corpus.utterances import Utterance, Utterances
from sparsify.errors import SparsifyError


def utterance(key, speaker, **kwargs):
    return Utterance(key, speaker, Path("wav") / f"{key}.wav", len(key) + 0.5, **kwargs)


speakers = st.lists(st.text(max_size=3), min_size=1, max_size=20)


@given(speakers, st.data())
def test_columns_are_the_sequence(names, data):
    kinds = st.sampled_from([{}, {"start": 1.0, "end": 2.5}, {"offset": 3, "size": 4}])
    listed = tuple(utterance(f"ключ {n}", name, **data.draw(kinds)) for n, name in enumerate(names))
    table = Utterances.of(listed)
    assert tuple(table) == listed
    assert table[-1] == listed[-1]
    assert table[1:3] == list(listed[1:3])
    assert [table.speakers[label] for label in table.labels] == names
    assert table.speakers == tuple(sorted(set(names)))
    with pytest.raises(IndexError):
        table[len(listed)]


@given(speakers, st.data())
def test_a_subset_keeps_the_order(names, data):
    corpus = Corpus(utterance(str(n), name) for n, name in enumerate(names))
    wanted = data.draw(st.sets(st.sampled_from(names)))
    subset = corpus.subset(wanted)
    assert list(subset.utterances) == [u for u in corpus.utterances if u.speaker in wanted]
    assert subset.speakers == tuple(sorted(wanted))
    assert subset.seconds == sum(u.seconds for u in subset.utterances)


def test_keys_differ():
    with pytest.raises(SparsifyError, match="two utterances are called 'b'"):
        Utterances.of([utterance(key, "s") for key in "abcb"])


def test_the_place_of_a_part_names_it():
    assert utterance("k", "s").place == Path("wav/k.wav")
    assert utterance("k", "s", offset=1, size=2).place == Path("wav/k.wav/k")
    assert utterance("k", "s", end=1.0).place == Path("wav/k.wav/k")


def test_an_utterance_takes_few_bytes(tmp_path):
    count = 20_000
    path = tmp_path / "list.csv"
    lines = (f"id{n % 100}/video/{n:05d}.wav,id{n % 100},{n / 7}\n" for n in range(count))
    path.write_text("path,speaker,seconds\n" + "".join(lines))
    tracemalloc.start()
    utterances = read_manifest(path).utterances
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(utterances) == count
    assert held < 100 * count
    assert peak < 400 * count
    assert np.isclose(utterances.seconds[-1], (count - 1) / 7)
