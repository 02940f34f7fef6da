"""Seeded damage to bytes: what disks, careless tools and adversaries do to a file."""

import random
import re
from collections.abc import Callable

_MOST_BYTES = 1 << 20  # what duplication may grow an input to
_INTEGERS = (
    *(0, 1, 2, 3, 4, 7, 8, 15, 16, 63, 64, 100, 127, 128, 255, 256, 1000, 4095, 65535, 65536),
    *(10**6, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 10**12, 2**63 - 1, 2**63, 2**64 - 1),
)
_NUMBERS = (
    *("0", "-1", "1", "-0", "0.5", "1e308", "1e999", "-1e999", "nan", "NaN", ".inf", "Infinity"),
    *("1e-320", "2147483648", "9223372036854775808", "1000000000000", "9" * 400, "0x10", "1_0"),
    *("", "true", "null", '"1"', "[]", "{}", "1.5.2", "2024-13-45", "12:30:45"),
)
_NESTS = ((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"<a>", b"</a>"), (b"- ", b""))
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The input with one to four damages, the same for the same state of `rng`."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        data = rng.choice(_MUTATIONS)(data, rng)[:_MOST_BYTES]
    return data


def _flip_bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(data), rng.choice((1, 1, 2, 8, 64)))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _insert(data: bytes, rng: random.Random) -> bytes:
    place, length = _place(data, rng), rng.choice((1, 1, 2, 4, 8, 100))
    filler = rng.choice((rng.randbytes(length), b"\0" * length, b"\xff" * length, b"\n" * length))
    return data[:place] + filler + data[place:]


def _delete(data: bytes, rng: random.Random) -> bytes:
    start, end = _range(data, rng)
    return data[:start] + data[end:]


def _duplicate(data: bytes, rng: random.Random) -> bytes:
    start, end = _range(data, rng)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def _splice(data: bytes, rng: random.Random) -> bytes:
    """One part of the input over another."""
    start, end = _range(data, rng)
    place = _place(data, rng)
    return data[:place] + data[start:end] + data[place + end - start :]


def _integer(data: bytes, rng: random.Random) -> bytes:
    """A binary integer, such as a length, near the start as often as anywhere."""
    width = rng.choice((1, 2, 4, 8))
    place = rng.choice((_place(data, rng), rng.randrange(min(len(data), 64) + 1)))
    value = rng.choice(_INTEGERS) + rng.choice((0, 0, -1, len(data)))
    field = (value % 256**width).to_bytes(width, rng.choice(("little", "big")))
    return data[:place] + field + data[place + width :]


def _number(data: bytes, rng: random.Random) -> bytes:
    """A number in ASCII replaced by an odd one."""
    numbers = list(_NUMBER.finditer(data))
    if not numbers:
        return _integer(data, rng)
    start, end = rng.choice(numbers).span()
    return data[:start] + rng.choice(_NUMBERS).encode() + data[end:]


def _nest(data: bytes, rng: random.Random) -> bytes:
    opening, closing = rng.choice(_NESTS)
    depth = rng.choice((1, 2, 50, 200, 5000))
    start, end = rng.choice(((0, len(data)), _range(data, rng)))
    return data[:start] + opening * depth + data[start:end] + closing * depth + data[end:]


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip_bits, _flip_bits, _truncate, _insert, _delete, _duplicate, _splice),
    *(_integer, _integer, _number, _number, _nest),
)


def _place(data: bytes, rng: random.Random) -> int:
    return rng.randrange(len(data) + 1)


def _range(data: bytes, rng: random.Random) -> tuple[int, int]:
    """Bounds of a part, short ones as often as long ones."""
    start = _place(data, rng)
    longest = rng.choice((1, 4, 16, 64, 1024, len(data)))
    return start, min(len(data), start + rng.randrange(longest + 1))
