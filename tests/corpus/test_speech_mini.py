"""The evaluation set: the lists that ship, and a set built from a corpus of the same layout."""

import itertools
import re

import numpy as np
import pytest
import soundfile as sf

from sparsify.corpus.speech_mini import Speaker, build, speakers, trial_list
from sparsify.errors import SparsifyError

RATE = 16000


@pytest.fixture
def source(tmp_path):
    """A corpus with the layout of speechocean762, whose lengths and contents differ."""
    rng = np.random.default_rng(0)
    chosen = []
    for number, split in (("0007", "train"), ("0003", "test"), ("0012", "test")):
        names, samples = [f"0{number}00{i:02d}" for i in (1, 5)], 0
        for i, name in enumerate(names):
            count = RATE // 2 + 777 * i + int(number)
            path = tmp_path / "source" / "WAVE" / f"SPEAKER{number}" / f"{name}.WAV"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, rng.integers(-9000, 9000, count, dtype=np.int16), RATE)
            samples += count
        chosen.append(Speaker(number, "f", "30", split, samples, tuple(names)))
    return tmp_path / "source", chosen


def encoded(samples, path):
    sf.write(path, samples, RATE, format="OGG", subtype="VORBIS")
    return sf.read(path, dtype="float32")[0]


def smooth(rng, count, db):
    """Gain by bin from eight knots, drawn line by line."""
    knots = rng.normal(0, db, 8)
    places = np.arange(count) * 7 / (count - 1)
    left = np.minimum(places.astype(int), 6)
    level = knots[left] * (1 - (places - left)) + knots[left + 1] * (places - left)
    return 10 ** (level / 20)


def test_the_set_is_what_an_independent_computation_gives(source, tmp_path):
    root, chosen = source
    output = tmp_path / "mini"
    assert build(root, output, chosen) == {"train": 2, "test": 4, "test_noisy": 4}
    found = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.ogg"))
    assert found == [
        f"{part}/{speaker}/0{speaker}00{i}.ogg"
        for part, speaker in (
            *(("test", "0003"), ("test", "0012")),
            *(("test_noisy", "0003"), ("test_noisy", "0012"), ("train", "0007")),
        )
        for i in ("01", "05")
    ]
    rng = np.random.default_rng([762, 22, 1])
    for speaker in ("0003", "0012"):
        for i in ("01", "05"):
            name = f"0{speaker}00{i}"
            clean, _ = sf.read(root / f"WAVE/SPEAKER{speaker}/{name}.WAV", dtype="float32")
            count = len(clean)
            speech = np.fft.irfft(np.fft.rfft(clean) * smooth(rng, count // 2 + 1, 4), count)
            spectrum = np.fft.rfft(rng.normal(size=count))
            noise = np.fft.irfft(spectrum * smooth(rng, count // 2 + 1, 8), count)
            snr = 5 + 10 * rng.random()
            noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2) / 10 ** (snr / 10))
            noisy = speech + noise
            noisy /= max(1, np.abs(noisy).max() / 0.99)
            for part, expected in (("test", clean), ("test_noisy", noisy)):
                samples, rate = sf.read(output / part / speaker / f"{name}.ogg", dtype="float32")
                assert rate == RATE
                reference = encoded(expected.astype(np.float32), tmp_path / "x.ogg")
                # The codec quantises, so that a last bit of its input may change a sample.
                np.testing.assert_allclose(samples, reference, atol=2e-3)
                assert np.mean(samples != reference) < 0.2
    assert (output / "trials.txt").read_text() == trial_list()
    assert (output / "speakers.tsv").read_text().splitlines() == [
        "speaker\tgender\tage\tsplit",
        *(f"{s.speaker}\tf\t30\t{s.split}" for s in chosen),
    ]


def test_nothing_is_left_of_a_failure(source, tmp_path, monkeypatch):
    root, chosen = source
    monkeypatch.setattr("sparsify.corpus.speech_mini.trial_list", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(root, tmp_path / "mini", chosen)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_bad_sources_are_refused_before_anything_is_written(source, tmp_path):
    root, chosen = source
    with pytest.raises(SparsifyError, match=r"no file '.*SPEAKER.*WAV'.*root of speechocean762"):
        build(root, tmp_path / "mini")
    (tmp_path / "there").mkdir()
    with pytest.raises(SparsifyError, match="exists already"):
        build(root, tmp_path / "there", chosen)
    file = root / "WAVE" / "SPEAKER0012" / "0001200.WAV".replace("00.", "0001.")
    content = file.read_bytes()
    sf.write(file, np.zeros(RATE), RATE)
    with pytest.raises(SparsifyError, match=r"speaker 0012 has .* another version"):
        build(root, tmp_path / "mini", chosen)
    sf.write(file, np.zeros(RATE), 8000)
    with pytest.raises(SparsifyError, match="8000 Hz"):
        build(root, tmp_path / "mini", chosen)
    file.write_bytes(content[:3])
    with pytest.raises(SparsifyError, match="cannot read"):
        build(root, tmp_path / "mini", chosen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "there"]


def test_the_lists_fit_together():
    chosen = speakers()
    by_split = {split: [s for s in chosen if s.split == split] for split in ("train", "test")}
    assert {split: len(found) for split, found in by_split.items()} == {"train": 84, "test": 22}
    assert all(u[1:5] == s.speaker and len(u) == 9 for s in chosen for u in s.utterances)
    assert sum(len(s.utterances) for s in by_split["train"]) == 1298
    assert {len(s.utterances) for s in by_split["test"]} == {12}
    assert sum(s.samples for s in by_split["train"]) / RATE / 3600 == pytest.approx(1.55, abs=0.005)
    lines = [line.split() for line in trial_list().splitlines()]
    names = {f"{s.speaker}/{u}.ogg" for s in by_split["test"] for u in s.utterances}
    assert {name for line in lines for name in line[1:]} == names
    targets = [(first, second) for label, first, second in lines if label == "1"]
    of_speaker = [sorted(n for n in names if n.startswith(s.speaker)) for s in by_split["test"]]
    every = itertools.chain.from_iterable(itertools.combinations(n, 2) for n in of_speaker)
    assert sorted(targets) == sorted(every)
    others = {frozenset(line[1:]) for line in lines if line[0] == "0"}
    assert len(others) == 8712 == len(lines) - len(targets)
    assert all(len({name[:4] for name in pair}) == 2 for pair in others)


def test_the_lists_are_those_of_the_set(speech_mini):
    assert trial_list() == (speech_mini / "trials.txt").read_text()
    table = [line.split("\t") for line in (speech_mini / "speakers.tsv").read_text().splitlines()]
    assert table[1:] == [[s.speaker, s.gender, s.age, s.split] for s in speakers()]
    for speaker in speakers():
        folder = speech_mini / speaker.split / speaker.speaker
        assert tuple(sorted(file.stem for file in folder.iterdir())) == speaker.utterances
        assert sum(sf.info(file).frames for file in folder.iterdir()) == speaker.samples


def test_the_trials_are_well_formed():
    pattern = re.compile(r"[01] \d{4}/\d{9}\.ogg \d{4}/\d{9}\.ogg")
    assert all(pattern.fullmatch(line) for line in trial_list().splitlines())
