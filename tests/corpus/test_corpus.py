import re

import numpy as np
import pytest
import soundfile as sf

from sparsify.audio.decode import read_audio
from sparsify.corpus.corpus import Corpus, split_speakers
from sparsify.corpus.layouts import load_corpus
from sparsify.corpus.utterances import Utterance
from sparsify.errors import SparsifyError

RATE = 16000


def sine(frequency, rate, seconds=1.0):
    return 0.5 * np.sin(2 * np.pi * frequency / rate * np.arange(round(rate * seconds)))


def write(path, samples=None, rate=RATE, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".opus":
        kwargs = {"format": "OGG", "subtype": "OPUS"}
    sf.write(path, sine(440, rate) if samples is None else samples, rate, **kwargs)
    return path


def truncate(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.fixture
def folder(tmp_path):
    """Two speakers with two utterances each."""
    for name in ("anna/1.wav", "anna/2.flac", "bert/video/1.ogg", "bert/video/2.mp3"):
        write(tmp_path / name)
    return tmp_path


def test_one_folder_per_speaker_in_any_format(folder):
    corpus = load_corpus(folder, strict=True)
    keys = [utterance.key for utterance in corpus.utterances]
    assert keys == ["anna/1.wav", "anna/2.flac", "bert/video/1.ogg", "bert/video/2.mp3"]
    assert [u.speaker for u in corpus.utterances] == ["anna", "anna", "bert", "bert"]
    assert all(u.path == folder / u.key for u in corpus.utterances)
    assert all(u.seconds == pytest.approx(1.0, abs=0.1) for u in corpus.utterances)
    assert corpus.speakers == ("anna", "bert")
    assert corpus.seconds == pytest.approx(4.0, abs=0.2)


def test_links_to_speaker_folders_are_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("1.wav", "2.wav"):
        write(elsewhere / name)
    (folder / "carl").symlink_to(elsewhere, target_is_directory=True)
    assert load_corpus(folder).speakers == ("anna", "bert", "carl")


def test_what_is_no_audio_or_hidden_is_ignored(folder):
    (folder / "README.md").write_text("about")
    (folder / "anna" / "notes.txt").write_text("about")
    write(folder / "anna" / ".hidden.wav")
    write(folder / ".trash" / "1.wav")
    corpus = load_corpus(folder, strict=True)
    assert len(corpus.utterances) == 4
    assert not corpus.skipped


def text_as_wav(path):
    path.write_text("this is not audio " * 100)


def empty(path):
    path.write_bytes(b"")


def short(path):
    write(path, sine(440, RATE, 0.29))


def noise(seconds):
    return 0.1 * np.random.default_rng(0).standard_normal(round(RATE * seconds))


def truncated(path):
    write(path, noise(3.0))
    truncate(path)


def truncated_at_a_page(path):
    write(path, noise(3.0))
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"OggS")])


UNUSABLE = [
    ("broken.wav", text_as_wav, "Format not recognised"),
    (
        "broken.m4a",
        text_as_wav,
        "libsndfile cannot decode m4a, convert it to wav or flac"
        " (ffmpeg -i FILE.m4a -ac 1 -ar 16000 FILE.wav)",
    ),
    ("broken.wav", empty, "empty file"),
    ("broken.wav", short, "shorter than 0.3 s"),
    ("broken.wav", truncated, "truncated"),
    ("broken.aiff", truncated, "truncated"),
    ("broken.au", truncated, "truncated"),
    ("broken.ogg", truncated, "truncated"),
    ("broken.ogg", truncated_at_a_page, "truncated"),
    ("broken.opus", truncated, "truncated"),
]


@pytest.mark.parametrize(("name", "make", "reason"), UNUSABLE)
def test_unusable_files_are_skipped_with_a_reason_or_named_under_strict(folder, name, make, reason):
    path = folder / "anna" / name
    make(path)
    corpus = load_corpus(folder)
    assert len(corpus.utterances) == 4
    assert [(s.path, s.reason) for s in corpus.skipped] == [(path, reason)]
    with pytest.raises(SparsifyError, match=re.escape(f"{name}: {reason}")):
        load_corpus(folder, strict=True)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_is_not_truncated(folder, size):
    path = folder / "anna" / "1.wav"
    content = bytearray(path.read_bytes())
    at = content.find(b"data") + 4
    content[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert not load_corpus(folder).skipped
    assert len(read_audio(path, RATE)) == RATE


def test_a_file_outside_the_speaker_folders_is_skipped(folder):
    write(folder / "stray.wav")
    (skipped,) = load_corpus(folder).skipped
    assert skipped.path == folder / "stray.wav"
    assert "outside the speaker folders" in skipped.reason


def test_a_speaker_with_one_utterance_is_dropped_or_fatal(folder):
    write(folder / "carl" / "1.wav")
    corpus = load_corpus(folder)
    assert corpus.speakers == ("anna", "bert")
    assert [s.reason for s in corpus.skipped] == ["only one utterance of speaker carl"]
    with pytest.raises(SparsifyError, match="only one utterance of speaker carl"):
        load_corpus(folder, strict=True)


def test_a_missing_folder(tmp_path):
    with pytest.raises(SparsifyError, match="nowhere is not a folder"):
        load_corpus(tmp_path / "nowhere")


def test_a_folder_without_audio(tmp_path):
    (tmp_path / "anna").mkdir()
    with pytest.raises(SparsifyError, match="no audio under"):
        load_corpus(tmp_path)


def test_audio_without_speaker_folders(tmp_path):
    write(tmp_path / "1.wav")
    with pytest.raises(SparsifyError, match=r"lie directly in .* one folder per speaker"):
        load_corpus(tmp_path)


def test_a_single_speaker(tmp_path):
    write(tmp_path / "anna" / "1.wav")
    write(tmp_path / "anna" / "2.wav")
    with pytest.raises(SparsifyError, match="at least 2 are needed"):
        load_corpus(tmp_path)


def test_nothing_usable_names_the_first_reason(tmp_path):
    for name in ("anna", "bert"):
        (tmp_path / name).mkdir()
        text_as_wav(tmp_path / name / "1.wav")
    with pytest.raises(SparsifyError, match=r"anna/1.wav: Format not recognised"):
        load_corpus(tmp_path)


def speakers(count):
    return Corpus(
        tuple(
            Utterance(f"{s:02d}/{u}", f"{s:02d}", folder, 1.0)
            for folder in [None]
            for s in range(count)
            for u in range(3)
        )
    )


def test_the_split_is_disjoint_complete_and_decided_by_the_seed():
    corpus = speakers(20)
    train, validation = split_speakers(corpus, 5, seed=1)
    assert len(validation.speakers) == 5
    assert not set(train.speakers) & set(validation.speakers)
    assert sorted(train.speakers + validation.speakers) == list(corpus.speakers)
    assert len(train.utterances) == 45
    assert split_speakers(corpus, 5, seed=1) == (train, validation)
    assert split_speakers(corpus, 5, seed=2) != (train, validation)


def test_a_split_must_leave_speakers_to_train_on():
    train, _ = split_speakers(speakers(6), 4, seed=0)
    assert len(train.speakers) == 2
    with pytest.raises(SparsifyError, match=r"data.validation_speakers to at most 4"):
        split_speakers(speakers(6), 5, seed=0)
    with pytest.raises(SparsifyError, match=r"add speakers: at least 4 are needed"):
        split_speakers(speakers(3), 2, seed=0)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_sine_stays_that_sine_at_another_rate(tmp_path, rate):
    path = write(tmp_path / "sine.wav", sine(1000, rate), rate, subtype="FLOAT")
    samples = read_audio(path, RATE)
    assert samples.dtype == np.float32
    assert samples.shape == (RATE,)
    inner = slice(100, -100)
    np.testing.assert_allclose(samples[inner], sine(1000, RATE)[inner], atol=0.005)


def test_what_lies_above_the_new_band_is_removed(tmp_path):
    path = write(tmp_path / "sine.wav", sine(10_000, 44100), 44100, subtype="FLOAT")
    assert np.abs(read_audio(path, RATE)[100:-100]).max() < 0.01


def test_channels_are_averaged(tmp_path):
    left, right = sine(300, RATE), sine(700, RATE)
    path = write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path, RATE), (left + right) / 2, atol=1e-6)


def test_samples_beyond_full_scale_are_scaled_back(tmp_path):
    path = write(tmp_path / "loud.wav", 8 * sine(300, RATE), subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path, RATE), 2 * sine(300, RATE), atol=1e-5)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "opus"])
def test_reading_a_truncated_file_is_an_error_that_names_it(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    truncated(path)
    with pytest.raises(SparsifyError, match=rf"cannot read .*cut\.{suffix}: "):
        read_audio(path, RATE)


@pytest.mark.parametrize(
    ("samples", "reason"), [([], "no samples"), ([0.1, np.nan] * 500, "not finite")]
)
def test_reading_what_is_no_signal_is_an_error(tmp_path, samples, reason):
    path = write(tmp_path / "odd.wav", np.array(samples), subtype="FLOAT")
    with pytest.raises(SparsifyError, match=rf"odd\.wav: .*{reason}"):
        read_audio(path, RATE)


def test_reading_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(SparsifyError, match=r"gone\.wav: no such file"):
        read_audio(tmp_path / "gone.wav", RATE)


def test_speech_mini_is_intact(speech_mini):
    corpus = load_corpus(speech_mini / "train", strict=True)
    assert len(corpus.speakers) == 84
    assert corpus.seconds / 3600 == pytest.approx(1.55, abs=0.01)


def test_a_link_to_itself_is_a_broken_file(folder):
    loop = folder / "anna" / "loop.wav"
    loop.symlink_to(loop)
    (skipped,) = load_corpus(folder).skipped
    assert skipped.path == loop


def test_links_back_up_are_not_followed(tmp_path, caplog):
    rng = np.random.default_rng(0)
    for speaker in ("a", "b"):
        (tmp_path / speaker).mkdir()
        for number in range(2):
            sf.write(tmp_path / speaker / f"{number}.wav", rng.normal(0, 0.1, 8000), 16000)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    corpus = load_corpus(tmp_path)
    assert [u.key for u in corpus.utterances] == ["a/0.wav", "a/1.wav", "b/0.wav", "b/1.wav"]
    assert f"'{tmp_path / 'loop'}' is left out: it is the same folder as" in caplog.text
