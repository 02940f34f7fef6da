"""Simulated rooms: their reverberation time by Schroeder's backward integration."""

import numpy as np
import pytest
from scipy.signal import convolve

from sparsify.augment.reverb import reverberate, simulated_room

RATE = 16000


@pytest.mark.parametrize("rt60", [0.2, 0.5, 1.0])
def test_energy_decays_by_60_db_in_the_reverberation_time(rt60):
    times = []
    for seed in range(5):
        response = simulated_room(np.random.default_rng(seed), rt60, RATE)
        tail = response[np.flatnonzero(response)[1] :].astype(float)
        energy = np.cumsum(np.square(tail)[::-1])[::-1]
        level = 10 * np.log10(energy / energy[0])
        fit = (level < -5) & (level > -25)  # T20
        slope, _ = np.polyfit(np.flatnonzero(fit) / RATE, level[fit], 1)
        times.append(-60 / slope)
    assert np.mean(times) == pytest.approx(rt60, rel=0.1)


def test_direct_sound_leads_and_outweighs_the_rest():
    ratios = []
    for seed in range(200):
        response = simulated_room(np.random.default_rng(seed), 0.3, RATE)
        first = np.flatnonzero(response[1:])[0] + 1
        assert 0.002 * RATE - 1 <= first <= 0.02 * RATE + 1
        assert response[0] == 1
        ratios.append(-10 * np.log10(np.square(response[1:], dtype=float).sum()))
    assert 0 <= min(ratios) < 1
    assert 11 < max(ratios) <= 12


def test_reverberation_is_convolution_at_the_same_power():
    rng = np.random.default_rng(0)
    clean = rng.standard_normal(3000).astype(np.float32)
    response = simulated_room(rng, 0.2, RATE)
    wet = reverberate(clean, response)
    expected = convolve(clean.astype(float), response)[:3000]
    expected *= np.sqrt(np.mean(clean.astype(float) ** 2) / np.mean(expected**2))
    np.testing.assert_allclose(wet, expected, atol=1e-4)
    silence = np.zeros(100, np.float32)
    assert np.array_equal(reverberate(silence, response), silence)


def test_a_room_depends_on_the_seed_alone():
    rooms = [simulated_room(np.random.default_rng(seed), 0.4, RATE) for seed in (1, 1, 2)]
    assert np.array_equal(rooms[0], rooms[1])
    assert not np.array_equal(rooms[0][:100], rooms[2][:100]) or len(rooms[0]) != len(rooms[2])
