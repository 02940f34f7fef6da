"""The unseen conditions: each does to speech what its name says, and always the same."""

import numpy as np
import pytest
import soundfile as sf

from sparsify.augment.recordings import Recordings
from sparsify.benchmarks.unseen_conditions import SNR_DB, babble, room, telephone, write_conditions
from sparsify.corpus.synthetic import write_synthetic
from sparsify.errors import SparsifyError

RATE = 16_000


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditions")
    write_synthetic(folder / "test", 2, 1, seed=1)
    write_synthetic(folder / "voices", 6, 1, seed=2)
    return folder


def power(samples):
    return float(np.square(samples, dtype=np.float64).mean())


def test_a_room_keeps_length_and_power_and_adds_a_tail():
    pulses = np.zeros(RATE, np.float32)
    pulses[RATE // 4] = 0.5
    heard = room(np.random.default_rng(0), pulses)
    assert len(heard) == len(pulses)
    assert power(heard) == pytest.approx(power(pulses), rel=0.01)
    assert np.abs(heard[: RATE // 4]).max() < 1e-6
    assert power(heard[RATE // 4 + 400 : RATE // 4 + 2000]) > 1e-4 * power(heard)


def test_babble_has_its_ratio(speech):
    samples = 0.1 * np.sin(np.arange(RATE, dtype=np.float32))
    add = babble(Recordings(speech / "voices", RATE))
    for seed in range(5):
        noise = add(np.random.default_rng(seed), samples) - samples
        ratio = 10 * np.log10(power(samples) / power(noise))
        assert SNR_DB[0] - 0.01 <= ratio <= SNR_DB[1] + 0.01


@pytest.mark.parametrize(("hertz", "passes"), [(150, False), (1000, True), (3800, False)])
def test_the_telephone_passes_its_band(hertz, passes):
    tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(RATE, dtype=np.float32) / RATE)
    heard = telephone(np.random.default_rng(0), tone)
    assert len(heard) == RATE // 2
    gain = power(heard) / power(tone)
    assert gain > 0.97 if passes else gain < 0.01


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
