"""Machines that run C code for tests: this process, or a program of another processor, over pipes.

A machine has one method, `call(function, *arguments)`, which returns what the function does as a
signed number of 32 bits. An argument is

- a number,
- `None`, for a pointer to nothing,
- `bytes`, for a pointer to memory that the function only reads,
- an array, for a pointer to memory of the same content that begins at the same place between two
  multiples of 64 bytes; afterwards the array holds what the function has left there.

`flush_denormals(on)` makes its arithmetic take numbers below the smallest normal one for zero, or
not; the test is skipped where none ever does. `half_tolerance` is how far results of weights that
are stored in half precision may be from those of PyTorch, relative to the largest one.
"""

import ctypes
import subprocess

import numpy as np
import pytest
import torch

ALIGNMENT = 64
EXACT = 2e-5
_NUMBER, _READ, _WRITTEN = range(3)


class Here:
    """A library of this processor."""

    half_tolerance = EXACT

    def __init__(self, library):
        self._library = library

    def call(self, function, *arguments):
        return self._library[function](*map(self._argument, arguments))

    @staticmethod
    def _argument(value):
        match value:
            case np.ndarray():
                return ctypes.c_void_p(value.ctypes.data)
            case bytes():
                return ctypes.c_char_p(value)
            case None:
                return ctypes.c_void_p(None)
        return ctypes.c_ssize_t(value)

    def flush_denormals(self, on):
        torch.set_flush_denormal(on)


class Remote:
    """A program that reads calls from a pipe and writes results to another, as remote.c does.

    A call is two words of 32 bits, the length of the function's name and the number of arguments;
    the name; for each argument two such words, what it is (a number, memory that is read, memory
    that is written) and where in 64 bytes it begins, and one of 64 bits, the number or the size of
    the memory; and the memory's content. The answer is a word, the result, and the new content of
    all memory that is written. All words are little-endian. After the last call the pipe is closed.

    Args:
        command: Starts it.
        flushes: Whether it has a function `flush_denormals`.
    """

    half_tolerance = EXACT

    def __init__(self, command, *, flushes):
        self._flushes = flushes
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call(self, function, *arguments):
        name = function.encode()
        parts = [np.int32([len(name), len(arguments)]).tobytes(), name]
        written = []
        for value in arguments:
            kind, place, number, content = _NUMBER, 0, value, b""
            if value is None:
                number = 0
            elif isinstance(value, bytes):
                kind, number, content = _READ, len(value), value
            elif isinstance(value, np.ndarray):
                assert value.flags.c_contiguous
                kind, place = _WRITTEN, value.ctypes.data % ALIGNMENT
                number, content = value.nbytes, value.tobytes()
                written.append(value)
            parts += [np.int32([kind, place]).tobytes(), np.int64(number).tobytes(), content]
        self._process.stdin.write(b"".join(parts))
        self._process.stdin.flush()
        result = int(np.frombuffer(self._read(4), np.int32)[0])
        for array in written:
            content = np.frombuffer(self._read(array.nbytes), array.dtype)
            if array.flags.writeable:
                array[...] = content.reshape(array.shape)
        return result

    def _read(self, size):
        content = self._process.stdout.read(size)
        if len(content) < size:
            raise RuntimeError(f"the machine ended with code {self._process.wait()}")
        return content

    def flush_denormals(self, on):
        if not self._flushes:
            pytest.skip("this machine never flushes denormals")
        self.call("flush_denormals", int(on))

    def close(self):
        """Ends it."""
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
