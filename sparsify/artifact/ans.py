"""Symbols as one stream of bytes: asymmetric numeral systems (ANS) with models of whole numbers.

The coder is that of `constriction`: a state of 64 bits, words of 32 and probabilities that are
multiples of 2^-24. A symbol's probability is always given by whole numbers, so that every machine
finds the same; docs/coded.md has a decoder in plain Python. (Source: Duda 2013, arXiv 1311.2540.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsify.errors import SparsifyError
from sparsify.runtimes import import_runtime

Symbols: TypeAlias = NDArray[np.int32]

TOTAL = 1 << 24
"""The sum of the weights of a model's symbols."""
_WORD = np.dtype("<u4")


class Encoder:
    """Collects symbols in the order in which they will be decoded."""

    def __init__(self) -> None:
        self._library = import_runtime("constriction", "coded").stream
        self._parts: list[tuple[Symbols, Any]] = []

    def uniform(self, symbols: ArrayLike, size: int) -> None:
        """Adds symbols of which each of `0..size-1` is as likely; `size` is at least 2."""
        self._add(symbols, self._library.model.Uniform(size))

    def weighted(self, symbols: ArrayLike, weights: Sequence[int]) -> None:
        """Adds symbols that are as likely as positive weights, which sum to `TOTAL`."""
        self._add(symbols, _categorical(self._library, weights))

    def _add(self, symbols: ArrayLike, model: Any) -> None:
        self._parts.append((np.ascontiguousarray(symbols, dtype=np.int32), model))

    def content(self) -> bytes:
        """The stream: words in little-endian order, the one that is decoded first at the end."""
        coder = self._library.stack.AnsCoder()
        for symbols, model in reversed(self._parts):
            coder.encode_reverse(symbols, model)
        content: bytes = coder.get_compressed().astype(_WORD).tobytes()
        return content


class Decoder:
    """Reads symbols in the order in which they were added.

    Raises:
        SparsifyError: The content is no such stream.
    """

    def __init__(self, content: bytes) -> None:
        self._library = import_runtime("constriction", "coded").stream
        try:
            words = np.frombuffer(content, _WORD).astype(np.uint32)
            self._coder = self._library.stack.AnsCoder(words)
        except ValueError as error:
            raise SparsifyError(f"its coded words are cut: {error}") from error

    def uniform(self, count: int, size: int) -> Symbols:
        """Symbols that `Encoder.uniform` added."""
        symbols: Symbols = self._coder.decode(self._library.model.Uniform(size), count)
        return symbols

    def weighted(self, count: int, weights: Sequence[int]) -> Symbols:
        """Symbols that `Encoder.weighted` added."""
        symbols: Symbols = self._coder.decode(_categorical(self._library, weights), count)
        return symbols

    def finish(self) -> None:
        """Makes sure that all was read.

        Raises:
            SparsifyError: Something is left.
        """
        if not self._coder.is_empty():
            raise SparsifyError("its coded words do not end where its tensors do")


def _categorical(library: Any, weights: Sequence[int]) -> Any:
    """A model of exactly these weights.

    `constriction` gives each symbol one and shares out the rest in proportion to the probabilities.
    Where these are whole numbers that sum to the rest, nothing is rounded.
    """
    probabilities = np.asarray(weights, dtype=np.float64) - 1
    return library.model.Categorical(probabilities, lazy=False, perfect=False)


def short_float(code: int, bits: int) -> int:
    """A whole number that rises with its code, about `2^bits` of them to each doubling.

    Args:
        code: At least 0; codes below `2^bits` are the number itself.
        bits: Bits of the mantissa.
    """
    size = 1 << bits
    return code if code < size else (size + code % size) << (code // size - 1)
