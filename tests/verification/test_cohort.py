"""Cohorts: embedded from a corpus, read from a table, and refused."""

import logging

import numpy as np
import pytest
import soundfile as sf

from sparsify.errors import SparsifyError
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.cohort import load_cohort
from sparsify.verification.embedding import embed, file_recordings
from sparsify.verification.embedding_tables import EmbeddingTable, write_table

RATE = 16000


def spread(features):
    return features.std(axis=0)


def load(path, embedder=spread):
    return load_cohort(path, embedder, FrontEnd(), "digest")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a/1", "a/2", "b/1", "b/2", "b/3"):
        path = tmp_path / "speech" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True, parents=True)
        sf.write(path, 0.1 * rng.standard_normal(RATE // 2), RATE)
    return tmp_path / "speech"


def test_a_folder_and_its_table_are_the_same_cohort(folder, tmp_path):
    cohort = load(folder)
    assert cohort.speakers == ("a", "a", "b", "b", "b")
    files = sorted(folder.rglob("*.wav"))
    keys = [file.relative_to(folder).as_posix() for file in files]
    expected = embed(spread, file_recordings(keys, files, RATE), FrontEnd())
    np.testing.assert_array_equal(cohort.embeddings, expected)
    table = EmbeddingTable(tuple(keys), cohort.speakers, expected, "digest")
    write_table(table, tmp_path / "cohort.npz")

    def refuse(features):
        raise AssertionError("embedded in vain")

    read = load(tmp_path / "cohort.npz", refuse)
    assert read.speakers == cohort.speakers
    np.testing.assert_array_equal(read.embeddings, expected)


def test_unusable_files_are_left_out_with_a_warning(folder, caplog):
    content = (folder / "b" / "3.wav").read_bytes()
    (folder / "b" / "3.wav").write_bytes(content[:-4000])
    with caplog.at_level(logging.WARNING, "sparsify"):
        cohort = load(folder)
    assert cohort.speakers == ("a", "a", "b", "b")
    assert "1 utterances of the cohort" in caplog.text
    with pytest.raises(SparsifyError, match="no utterance of the cohort"):
        load(folder, lambda features: features[0] * np.nan)


def test_a_corpus_of_another_layout_names_its_speakers(folder, tmp_path):
    """Where the first folder of a name is not the speaker, and a manifest tells who it is."""
    split = tmp_path / "LibriSpeech" / "train-clean-100"
    split.parent.mkdir()
    folder.rename(split)
    assert load(split.parent).speakers == ("a", "a", "b", "b", "b")
    rows = [f"carl,{split / 'a/1.wav'}", f"dora,{split / 'b/2.wav'}"]
    (tmp_path / "list.csv").write_text("\n".join(["speaker,path", *rows]))
    assert load(tmp_path / "list.csv").speakers == ("carl", "dora")


def test_speech_of_nobody_knows_whom_is_refused(folder):
    (folder / "a" / "1.wav").rename(folder / "1.wav")
    with pytest.raises(SparsifyError, match=r"does not name the speaker of '1\.wav'"):
        load(folder)


def test_a_table_of_another_model_or_without_speakers_is_refused(tmp_path):
    rows = np.ones((2, 3), dtype=np.float32)
    keys = ("a/1", "1")
    write_table(EmbeddingTable(keys, ("a", "b"), rows, "other"), tmp_path / "other.npz")
    with pytest.raises(SparsifyError, match="of another model"):
        load(tmp_path / "other.npz")
    write_table(EmbeddingTable(keys, ("a", ""), rows, "digest"), tmp_path / "flat.npz")
    with pytest.raises(SparsifyError, match="does not name the speaker of '1'"):
        load(tmp_path / "flat.npz")
