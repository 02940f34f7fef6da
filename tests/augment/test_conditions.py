"""The unseen conditions: each does to speech what its name says, and always the same."""

import numpy as np
import pytest

from sparsify.augment.conditions import SNR_DB, babble, room, telephone
from sparsify.augment.recordings import Recordings
from sparsify.corpus.synthetic import write_synthetic

RATE = 16_000


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


def test_babble_has_its_ratio(tmp_path):
    write_synthetic(tmp_path, 6, 1, seed=2)
    samples = 0.1 * np.sin(np.arange(RATE, dtype=np.float32))
    add = babble(Recordings(tmp_path, RATE))
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
