"""Tiny trees and lists of every layout give the utterances that a person reads off them."""

import io
import json
import os
import sys
import tarfile

import numpy as np
import pytest
import soundfile as sf

from sparsify.audio.decode import read_audio
from sparsify.corpus.corpus import describe
from sparsify.corpus.layouts import detect_layout, list_speech, load_corpus
from sparsify.corpus.prepare import prepare
from sparsify.errors import SparsifyError

RATE = 16000


def noise(seconds=0.5, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(RATE * seconds))


def write(root, *names, seconds=0.5):
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, noise(seconds, number), RATE)


def listed(corpus):
    return [(u.key, u.speaker) for u in corpus.utterances]


def pairs(*keys, level):
    return [(key, key.split("/")[level]) for key in keys]


def test_voxceleb(tmp_path, caplog):
    training = (
        "dev/wav/id10001/video/00001.wav",
        "dev/wav/id10001/video/00002.wav",
        "dev/wav/id10002/a/00001.wav",
        "dev/wav/id10002/b/00001.wav",
    )
    write(tmp_path, *training)
    assert detect_layout(tmp_path) == "voxceleb"
    assert detect_layout(tmp_path / "dev") == "voxceleb"
    assert detect_layout(tmp_path / "dev" / "wav") == "folder"
    write(tmp_path, "test/wav/id10270/v/00001.wav", "test/wav/id10270/v/00002.wav")
    corpus = load_corpus(tmp_path, strict=True)
    assert listed(corpus) == pairs(*training, level=2)
    assert corpus.layout == "voxceleb"
    assert "test/wav is left out" in caplog.text
    below = load_corpus(tmp_path / "dev" / "wav", strict=True)
    assert below.speakers == ("id10001", "id10002")


def test_parts_of_a_corpus_are_no_speakers(tmp_path):
    names = [
        f"{part}/{who}/{n}.wav" for part in ("Train", "test_noisy") for who in "ab" for n in "12"
    ]
    write(tmp_path, *names)
    message = rf"\(Train, test_noisy\) are named like parts .* such as {tmp_path}/Train, or the"
    with pytest.raises(SparsifyError, match=message):
        load_corpus(tmp_path)
    assert len(list_speech(tmp_path).utterances) == 8  # which takes everything
    assert load_corpus(tmp_path, layout="folder").speakers == ("Train", "test_noisy")
    write(tmp_path, "testimony/1.wav", "testimony/2.wav")
    assert load_corpus(tmp_path).speakers == ("Train", "test_noisy", "testimony")


@pytest.mark.parametrize("speakers", [("test_01", "test_02"), ("train", "test")])
def test_speakers_may_be_named_like_parts(tmp_path, speakers):
    write(tmp_path, *(f"{speaker}/{n}.wav" for speaker in speakers for n in "12"))
    assert {*load_corpus(tmp_path).speakers} == {*speakers}


def test_both_voxcelebs_under_one_root(tmp_path):
    names = [
        f"{part}/wav/{speaker}/v/{n}.wav"
        for part, speaker in (("vox1/dev", "id10001"), ("vox2/dev", "id00012"))
        for n in (1, 2)
    ]
    write(tmp_path, *names)
    corpus = load_corpus(tmp_path, strict=True)
    assert listed(corpus) == pairs(*names, level=3)


def test_parts_as_they_are_downloaded(tmp_path):
    training = [f"vox1_dev_wav/wav/id1000{s}/v/{n}.wav" for s in (1, 2) for n in (1, 2)]
    write(tmp_path, *training, *(f"vox1_test_wav/wav/id10270/v/{n}.wav" for n in (1, 2)))
    assert listed(load_corpus(tmp_path, strict=True)) == pairs(*training, level=2)


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"anything")


def test_a_tree_of_m4a_is_one_sentence_with_the_mend(tmp_path):
    touch(tmp_path, *(f"dev/aac/id0001{s}/v/{n}.m4a" for s in (1, 2) for n in (1, 2)))
    with pytest.raises(SparsifyError, match=r"all 4 audio files .* m4a .*ffmpeg -i FILE\.m4a"):
        load_corpus(tmp_path)


def test_m4a_that_was_converted_is_forgotten(tmp_path, caplog):
    touch(tmp_path, *(f"dev/aac/id0001{s}/v/{n}.m4a" for s in (1, 2) for n in (1, 2)))
    names = [f"dev/wav/id0001{s}/v/{n}.wav" for s in (1, 2) for n in (1, 2)]
    write(tmp_path, *names)
    touch(tmp_path, "dev/wav/id00011/v/1.m4a")
    corpus = load_corpus(tmp_path, strict=True)
    assert listed(corpus) == pairs(*names, level=2)
    touch(tmp_path, "dev/wav/id00011/v/3.m4a")
    (skipped,) = load_corpus(tmp_path).skipped
    assert skipped.path.name == "3.m4a"
    assert "ffmpeg" in skipped.reason


def test_cnceleb_trains_on_its_development_speakers(tmp_path, caplog):
    root = tmp_path / "CN-Celeb_flac"
    genres = ("drama-01-001.flac", "singing-02-003.flac")
    names = [f"data/id0000{s}/{genre}" for s in (0, 1) for genre in genres]
    write(root, *names, *(f"data/id00800/{genre}" for genre in genres))
    write(root, "eval/enroll/id00800-enroll.wav", "eval/test/id00800-singing-01-001.wav")
    (root / "dev").mkdir()
    (root / "dev" / "dev.lst").write_text("id00000\nid00001\n")
    assert detect_layout(root) == "cnceleb"
    assert listed(load_corpus(root, strict=True)) == pairs(*names, level=1)
    assert "1 speakers of" in caplog.text
    write(tmp_path / "CN-Celeb2_flac", "data/id10000/vlog-01-001.flac", "data/id10000/x.flac")
    both = load_corpus(tmp_path, strict=True)
    assert both.speakers == ("id00000", "id00001", "id10000")


def test_librispeech_trains_on_its_training_splits(tmp_path, caplog):
    names = (
        "train-clean-100/103/1240/103-1240-0000.flac",
        "train-clean-100/103/1241/103-1241-0000.flac",
        "train-other-500/20/205/20-205-0000.flac",
        "train-other-500/20/205/20-205-0001.flac",
    )
    write(tmp_path, *names, "test-clean/61/1/61-1-0000.flac", "test-clean/61/1/61-1-0001.flac")
    (tmp_path / "SPEAKERS.TXT").write_text("about")
    assert detect_layout(tmp_path) == "librispeech"
    assert listed(load_corpus(tmp_path, strict=True)) == pairs(*names, level=1)
    assert "test-clean is left out" in caplog.text
    assert detect_layout(tmp_path / "train-clean-100") == "folder"


def test_librispeech_in_its_folder(tmp_path):
    names = [f"LibriSpeech/dev-clean/{s}/1/{n}.flac" for s in (1, 2) for n in (1, 2)]
    write(tmp_path, *names)
    corpus = load_corpus(tmp_path, strict=True)
    assert listed(corpus) == pairs(*names, level=2)


def test_the_layout_can_be_forced(tmp_path):
    names = [f"{top}/id1000{s}/{n}.wav" for top in ("data", "wav") for s in (1, 2) for n in (1, 2)]
    write(tmp_path, *names)
    assert load_corpus(tmp_path).speakers == ("id10001", "id10002")
    assert load_corpus(tmp_path, layout="folder").speakers == ("data", "wav")
    for layout, problem in (
        ("librispeech", "no LibriSpeech tree"),
        ("kaldi", "wav.scp"),
        ("manifest", "is not a file"),
    ):
        with pytest.raises(SparsifyError, match=problem):
            load_corpus(tmp_path, layout=layout)
    with pytest.raises(SparsifyError, match="no VoxCeleb"):
        load_corpus(tmp_path / "data" / "id10001", layout="voxceleb")


@pytest.fixture
def kaldi(tmp_path):
    """Two speakers with two files each, listed with paths from the directory."""
    write(tmp_path, "wav/a 1.wav", "wav/a2.wav", "wav/b1.wav", "wav/b2.wav", seconds=2)
    (tmp_path / "wav.scp").write_text(
        "a-1 wav/a 1.wav\na-2 wav/a2.wav\nb-1 wav/b1.wav\nb-2 wav/b2.wav\n"
    )
    (tmp_path / "utt2spk").write_text("a-1 anna\na-2 anna\nb-1 bert\nb-2 bert\n")
    return tmp_path


def test_kaldi(kaldi):
    corpus = load_corpus(kaldi, strict=True)
    assert corpus.layout == "kaldi"
    assert listed(corpus) == [("a-1", "anna"), ("a-2", "anna"), ("b-1", "bert"), ("b-2", "bert")]
    assert corpus.utterances[0].path == kaldi / "wav" / "a 1.wav"
    assert corpus.seconds == pytest.approx(8)


def test_kaldi_paths_may_start_at_the_current_folder(kaldi, monkeypatch):
    directory = kaldi / "data" / "train"
    directory.mkdir(parents=True)
    for name in ("wav.scp", "utt2spk"):
        (kaldi / name).rename(directory / name)
    monkeypatch.chdir(kaldi)
    corpus = load_corpus("data/train", strict=True)
    monkeypatch.chdir("/")
    assert corpus.utterances[3].path.is_file()


def test_kaldi_segments_are_stretches_of_recordings(kaldi):
    (kaldi / "segments").write_text(
        "a-1 a-1 0.25 1\na-2 a-1 1 -1\nb-1 b-1 0 0.5\nb-2 b-2 1.5 2.1\n"
    )
    corpus = load_corpus(kaldi, strict=True)
    whole, _ = sf.read(kaldi / "wav" / "a 1.wav", dtype="float32")
    first, second, _, last = (read_audio(u.source, RATE) for u in corpus.utterances)
    np.testing.assert_array_equal(first, whole[4000:16000])
    np.testing.assert_array_equal(second, whole[16000:])
    assert len(last) == 8000
    assert [u.seconds for u in corpus.utterances] == pytest.approx([0.75, 1, 0.5, 0.6])


def test_kaldi_durations_spare_the_headers(kaldi):
    (kaldi / "utt2dur").write_text("a-1 2\na-2 2\nb-1 2\nb-2 3.5\n")
    assert load_corpus(kaldi).seconds == 9.5


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("wav.scp", "a-1 sph2pipe -f wav a.sph |\n", r"line 1: 'sph2pipe .*\|' is a command"),
        ("wav.scp", "a-1\n", "line 1: 2 fields are needed"),
        ("segments", "a-1 a-1 2 1\n", "the end 1 s is not after the start 2 s"),
        ("segments", "a-1 a-1 zero 1\n", "'zero' is no number"),
        ("segments", "a-1 a-1 0 1 A\n", "'1 A' is no number"),
        ("segments", "a-1 a-1 0 1e300\n", "line 1: '1e300' is no number of seconds from 0 up to"),
        ("segments", "a-1 a-1 nan 1\n", "'nan' is no number of seconds"),
        ("segments", "a-1 a-1 -2 -1\n", "'-2' is no number of seconds"),
        ("segments", "a-1 a-1 0 1\na-1 a-1 1 2\n", "line 2: 'a-1' is listed twice"),
        ("utt2dur", "a-1 inf\n", "utt2dur, line 1: 'inf' is no number of seconds"),
        ("utt2spk", "a-1 anna\na-1 bert\n", "utt2spk, line 2: 'a-1' is listed twice"),
        ("wav.scp", "a-1 x.wav\na-1 y.wav\n", "wav.scp, line 2: 'a-1' is listed twice"),
        ("wav.scp", "a-1 x\0.wav\na-2 b\nb-1 c\nb-2 d\n", "line 1: the path holds a zero byte"),
        ("wav.scp", "a-1 " + "x" * 2**20, "line 1: longer than 1024 KiB"),
    ],
)
def test_kaldi_mistakes_are_named(kaldi, name, content, problem):
    (kaldi / name).write_text(content)
    with pytest.raises(SparsifyError, match=problem):
        load_corpus(kaldi)


def test_kaldi_needs_speakers(kaldi):
    (kaldi / "utt2spk").unlink()
    with pytest.raises(SparsifyError, match="utt2spk: a Kaldi data directory has"):
        load_corpus(kaldi)


def test_kaldi_lines_that_match_no_other_are_skipped(kaldi):
    with (kaldi / "utt2spk").open("a") as stream:
        stream.write("c-1 carl\n")
    with (kaldi / "wav.scp").open("a") as stream:
        stream.write("d-1 wav/b1.wav\n")
    reasons = {s.path.name: s.reason for s in load_corpus(kaldi).skipped}
    assert reasons.keys() == {"c-1", "d-1"}
    assert "line 5: no recording" in reasons["c-1"]
    assert "no speaker in utt2spk" in reasons["d-1"]


def encoded(seed, file_format="WAV"):
    stream = io.BytesIO()
    sf.write(stream, noise(0.5, seed), RATE, format=file_format)
    return stream.getvalue()


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path):
    """Three utterances in each of two tars, two speakers, as WeSpeaker writes them."""
    kinds = (("wav", "WAV"), ("flac", "FLAC"), ("ogg", "OGG"))
    for shard in range(2):
        members = []
        for number, (suffix, file_format) in enumerate(kinds):
            key = f"id{number % 2}/video.x/{shard}{number}.wav"
            content = encoded(10 * shard + number, file_format)
            members += [(f"{key}.spk", f"id{number % 2}".encode()), (f"{key}.{suffix}", content)]
        members.append(("ignored.txt", b"about"))
        write_tar(tmp_path / f"shards_{shard}.tar", members)
    (tmp_path / "shard.list").write_text("shards_0.tar\nshards_1.tar\n")
    return tmp_path / "shard.list"


def test_shards(shards):
    corpus = load_corpus(shards, strict=True)
    assert corpus.layout == "shards"
    expected = [f"id{n % 2}/video.x/{s}{n}.wav" for s in range(2) for n in range(3)]
    assert listed(corpus) == [(key, key[:3]) for key in expected]
    for number, utterance in enumerate(corpus.utterances):
        assert utterance.seconds == pytest.approx(0.5)
        assert utterance.path == shards.parent / f"shards_{number // 3}.tar"
        suffix = ("wav", "flac", "ogg")[number % 3]
        with tarfile.open(utterance.path) as tar:
            content = tar.extractfile(f"{utterance.key}.{suffix}").read()
        samples, _ = sf.read(io.BytesIO(content), dtype="float32")
        np.testing.assert_array_equal(read_audio(utterance.source, RATE), samples)


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
@pytest.mark.parametrize("name", ["list.jsonl", "list.csv"])
def test_names_that_are_no_utf_8(tmp_path, name):
    write(tmp_path, *(f"speech/{s}/{n}.wav" for s in "ab" for n in (1, 2)))
    for path in sorted((tmp_path / "speech").rglob("*.wav")):
        os.rename(path, os.fsencode(path.with_suffix("")) + b" \xfe,.wav")
    corpus = load_corpus(tmp_path / "speech", strict=True)
    assert corpus.utterances[0].key == "a/1 \udcfe,.wav"
    prepare(tmp_path / "speech", tmp_path / name, verify=True, strict=True)
    assert list(load_corpus(tmp_path / name).utterances) == list(corpus.utterances)


@pytest.mark.parametrize("name", ["list.jsonl", "list.csv"])
def test_a_prepared_manifest_says_the_same(shards, kaldi, name):
    (kaldi / "segments").write_text("a-1 a-1 0 1\na-2 a-2 1 -1\nb-1 b-1 0 1\nb-2 b-2 0 -1\n")
    for path in (shards, kaldi):
        output = shards.parent / name
        prepared = prepare(path, output)
        corpus = load_corpus(path, strict=True)
        assert prepared.corpus == corpus
        assert prepared.sample_rates == {RATE: len(corpus.utterances)}
        again = load_corpus(output, strict=True)
        assert list(again.utterances) == list(corpus.utterances)


def test_a_compressed_shard_is_refused(shards):
    write_tar(shards.parent / "small.tar.gz", [("a.spk", b"a")], "w:gz")
    shards.write_text("small.tar.gz\n")
    with pytest.raises(SparsifyError, match=r"small\.tar\.gz is compressed.*plain tar"):
        load_corpus(shards)


def test_a_missing_shard_is_named(shards):
    shards.write_text("shards_0.tar\nshards_9.tar\n")
    with pytest.raises(SparsifyError, match=r"no shard .*shards_9\.tar"):
        load_corpus(shards)


def test_what_a_shard_lacks_is_skipped(shards):
    tar = shards.parent / "shards_2.tar"
    members = [("x.wav", encoded(0)), ("y.spk", b"id0"), ("y.m4a", b"anything"), ("u.spk", b"id0")]
    write_tar(tar, [*members, ("z.spk", b"id1"), ("z.wav", encoded(1))])
    cut = shards.parent / "shards_3.tar"
    cut.write_bytes((shards.parent / "shards_1.tar").read_bytes()[:20000])
    shards.write_text("shards_0.tar\nshards_2.tar\nshards_3.tar\n")
    corpus = load_corpus(shards)
    reasons = {s.path.name: s.reason for s in corpus.skipped}
    assert reasons["x.wav"] == "no .spk of that name"
    assert "ffmpeg" in reasons["y.m4a"]
    assert reasons["u.spk"] == "no audio of that name"
    assert reasons["shards_3.tar"].startswith("a broken tar")


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("x.spk", b" \n")], r"odd\.tar: 'x\.spk' is empty: write the speaker"),
        ([("x.spk", b"a"), ("x.spk", b"b")], r"odd\.tar: 'x\.spk' is there twice.*'a' and 'b'"),
        ([("x.wav", b"1"), ("x.flac", b"2"), ("x.spk", b"a")], "two utterances are called 'x'"),
    ],
)
def test_a_shard_that_contradicts_itself_is_refused(shards, members, problem):
    write_tar(shards.parent / "odd.tar", members)
    shards.write_text("odd.tar\n")
    with pytest.raises(SparsifyError, match=problem):
        load_corpus(shards)


def header(name, size, kind=tarfile.REGTYPE):
    """A block of a tar in which anything can be said of the length."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "member",
    [
        header("x.wav", 2**60),
        header("x.wav", -512),  # leads back to itself
        header("x.wav", -(10**6)),
        header("x.spk", 2**60),
        header("x", 2**62, tarfile.GNUTYPE_LONGNAME),
        header("x", 2**40, tarfile.XHDTYPE),
        header("x", 512, tarfile.XHDTYPE) + b"30 GNU.sparse.major=x\n".ljust(512, b"\0"),
        header("x", 0, tarfile.GNUTYPE_LONGNAME) * 3000,  # each asks for the next
        b"\xff" * 512,
    ],
)
def test_members_of_nonsense_are_skipped(shards, member):
    with tarfile.open(shards.parent / "shards_0.tar") as tar:
        tar.getmembers()
        end = tar.offset
    content = (shards.parent / "shards_0.tar").read_bytes()[:end]
    (shards.parent / "odd.tar").write_bytes(content + member)
    shards.write_text("odd.tar\nshards_1.tar\n")
    corpus = load_corpus(shards)
    assert len(corpus.utterances) == 6
    assert any(s.path.name == "odd.tar" for s in corpus.skipped)


def test_two_utterances_of_the_same_name_are_refused(shards):
    shards.write_text("shards_0.tar\nshards_0.tar\n")
    with pytest.raises(SparsifyError, match=r"two utterances are called 'id0/video.x/00.wav'"):
        load_corpus(shards)


def test_a_corpus_that_is_too_deep_is_one_sentence(tmp_path):
    folder = tmp_path / "a" / "/".join("x" * 100)
    folder.mkdir(parents=True)
    with pytest.raises(SparsifyError, match="more than 64 folders in each other"):
        load_corpus(tmp_path)


def test_raw_list(tmp_path):
    names = [f"wav/{s}/{n}.wav" for s in "ab" for n in (1, 2)]
    write(tmp_path, *names)
    lines = ({"key": n[4:-4], "spk": n[4], "wav": str(tmp_path / n)} for n in names)
    path = tmp_path / "raw.list"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    corpus = load_corpus(path, strict=True)
    assert listed(corpus) == [("a/1", "a"), ("a/2", "a"), ("b/1", "b"), ("b/2", "b")]
    assert corpus.seconds == 2
    assert describe(corpus) == {
        "layout": "manifest",
        "speakers": 2,
        "utterances": 4,
        "hours": pytest.approx(2 / 3600),
        "skipped": 0,
    }


def test_a_list_whose_files_are_elsewhere_is_one_sentence(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("speaker,path,seconds\n" + "".join(f"s,{n}.wav,2\n" for n in range(100)))
    with pytest.raises(SparsifyError, match=r"none of the files .* is there, such as .*0\.wav"):
        load_corpus(path)


def test_nothing_there(tmp_path):
    with pytest.raises(SparsifyError, match="nowhere is not a folder and not a file"):
        load_corpus(tmp_path / "nowhere")


def test_all_audio_of_a_folder_is_listed_whoever_speaks(tmp_path):
    root = tmp_path / "root"
    write(root, "a/1.wav", "a/cd/2.flac", "3.ogg")
    touch(root, "a/.hidden.wav", ".trash/x.wav", "notes.txt", "a/1.m4a")
    write(tmp_path, "elsewhere/4.wav", seconds=0.1)
    (root / "a" / "up").symlink_to(root)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    listing = list_speech(root)
    names = {"3.ogg": "", "a/1.wav": "a", "a/cd/2.flac": "a", "linked/4.wav": "linked"}
    assert {u.key: u.speaker for u in listing.utterances} == names
    assert not listing.skipped
    (only,) = list_speech(root / "3.ogg").utterances
    assert (only.key, only.speaker, only.path) == (str(root / "3.ogg"), "", root / "3.ogg")
    touch(tmp_path, "phone/1.m4a")
    for folder, problem in (("phone", "cannot decode"), ("none", "no audio under")):
        (tmp_path / folder).mkdir(exist_ok=True)
        with pytest.raises(SparsifyError, match=problem):
            list_speech(tmp_path / folder)
