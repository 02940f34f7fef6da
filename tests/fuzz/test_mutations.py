"""The damage itself: repeatable, and of all kinds."""

import random

from .mutations import mutated


def test_the_same_seed_makes_the_same_damage(fuzz_count):
    data = b'{"length": 12, "name": "a"}'
    first, second = random.Random(3), random.Random(3)
    damaged = [mutated(data, first) for _ in range(fuzz_count)]
    assert damaged == [mutated(data, second) for _ in range(fuzz_count)]
    assert len(set(damaged)) > 0.8 * fuzz_count
    assert max(map(len, damaged)) <= 1 << 20


def test_nothing_is_also_damaged():
    rng = random.Random(0)
    assert any(mutated(b"", rng) for _ in range(20))
