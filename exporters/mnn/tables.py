"""The tables of a FlatBuffers file, read without trust in any number that stands in it.

A table is found by its place in the file. Its fields have numbers, the order of the schema; which
are there, and where, is in a second table. All numbers are little-endian.
(https://flatbuffers.dev/internals/)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

TABLE_ERRORS = (struct.error, ValueError, IndexError, OverflowError)
"""What reading a file that contradicts itself ends in."""
_ALIGNMENT = 16  # bytes, of what is added
_LONGEST = 1024  # bytes of a name


class Tables:
    """A file of tables, in memory.

    Args:
        data: All of the file; what is changed is changed there.
    """

    def __init__(self, data: bytearray) -> None:
        self.data = data

    @property
    def root(self) -> int:
        """Where the outermost table is."""
        return self._unsigned(0)

    def integer(self, table: int, field: int, default: int = 0) -> int:
        """The value of a field of four bytes, or of one that is missing."""
        place = self._field(table, field)
        return default if place is None else self._signed(place)

    def byte(self, table: int, field: int) -> int:
        """The value of a field of one byte; 0 if it is missing."""
        place = self._field(table, field)
        return 0 if place is None else self._at("<B", place)

    def child(self, table: int, field: int) -> int | None:
        """Where the table, text or vector of a field is; `None` if it has none."""
        place = self._field(table, field)
        return None if place is None else place + self._unsigned(place)

    def text(self, table: int, field: int) -> str:
        """A text, empty if there is none.

        Raises:
            ValueError: It is too long for a name, and could be that of thousands of tables.
        """
        if (place := self.child(table, field)) is not None and self._unsigned(place) > _LONGEST:
            raise ValueError(f"a name of {self._unsigned(place)} bytes")
        return self.vector(table, field, "<u1").tobytes().decode("utf-8", "replace")

    def vector(self, table: int, field: int, dtype: str) -> NDArray[np.generic]:
        """A vector of numbers, empty if there is none; a view, through which it can be changed."""
        place = self.child(table, field)
        if place is None:
            return np.empty(0, dtype)
        return np.frombuffer(self.data, dtype, self._unsigned(place), place + 4)

    def children(self, table: int, field: int) -> Iterator[int]:
        """Where the tables in a vector of tables are.

        Raises:
            ValueError: One is there twice, so that a small file could be a large one.
        """
        place = self.child(table, field)
        seen = set()
        if place is not None:
            for each in range(place + 4, place + 4 + 4 * self._unsigned(place), 4):
                child = each + self._unsigned(each)
                if child in seen:
                    raise ValueError("a table is listed twice")
                seen.add(child)
                yield child

    def replace(
        self, table: int, others: Sequence[int], field: int, values: NDArray[np.generic]
    ) -> None:
        """Gives a table a vector of four-byte numbers in place of other fields.

        The vector and a new description of the table are added at the end of the file.

        Args:
            table: Where it is.
            others: Fields that it lacks from then on, the first of them a table or vector.
            field: The field, which was missing.
            values: What it holds from then on.
        """
        place = self._field(table, others[0])
        if place is None:
            raise ValueError(f"a table has no field {others[0]}")
        start = table - self._signed(table)
        description = bytearray(self.data[start : start + self._at("<H", start)])
        for other in others:
            if 4 + 2 * other < len(description):
                struct.pack_into("<H", description, 4 + 2 * other, 0)
        struct.pack_into("<H", description, 4 + 2 * field, place - table)
        struct.pack_into("<i", self.data, table, table - self._add(description))
        vector = struct.pack("<I", values.size) + values.tobytes()
        struct.pack_into("<I", self.data, place, self._add(vector) - place)

    def _add(self, part: bytes | bytearray) -> int:
        self.data += bytes(-len(self.data) % _ALIGNMENT)
        place = len(self.data)
        self.data += part
        return place

    def _field(self, table: int, field: int) -> int | None:
        description = table - self._signed(table)
        within = 4 + 2 * field
        if within + 2 > self._at("<H", description):
            return None
        offset = self._at("<H", description + within)
        return table + offset if offset else None

    def _unsigned(self, place: int) -> int:
        return self._at("<I", place)

    def _signed(self, place: int) -> int:
        return self._at("<i", place)

    def _at(self, kind: str, place: int) -> int:
        if not 0 <= place <= len(self.data) - struct.calcsize(kind):
            raise ValueError("something in it lies beyond its end")
        value: int = struct.unpack_from(kind, self.data, place)[0]
        return value
