"""Sample rates: torchaudio's windowed sinc, and the same filter for ratios it has no memory for."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch

from sparsify.audio._torchaudio import torchaudio_module
from sparsify.audio.samples import Samples

LOWEST_RATE, HIGHEST_RATE = 1_000, 384_000

# Of the filter, as in torchaudio: zero crossings on either side, and its roll-off.
_CROSSINGS, _ROLL_OFF = 6, 0.99
# torchaudio has a filter for every phase between two rates, each as long as a period of phases.
# 44.1 kHz to 16 kHz needs 160 filters of 475 weights; 16.001 kHz would need 16,000 of 16,014.
_MOST_WEIGHTS = 1 << 19
_MOST_PERIOD = 1 << 11
_PHASES = 512  # interpolated linearly between, which is good to -100 dB
# Samples that are resampled at once: most utterances as a whole, longer recordings in pieces.
_BLOCK = 1 << 20
_SHORT = 1 << 15  # beyond, torch convolves in the same way whatever its threads
_PRODUCTS = 1 << 18  # that are in memory at once

_THREADS = threading.Lock()  # for the number of threads, which is torch's and not ours


class Resampler:
    """Changes the rate of samples, block by block.

    A block is always computed from the same samples in the same way, so that a piece of a recording
    is to the last bit that of the whole. torchaudio's convolutions alone do not promise that.

    Args:
        rate: Rate of what is given, in Hz.
        new_rate: Wanted rate in Hz.
    """

    def __init__(self, rate: int, new_rate: int) -> None:
        divisor = math.gcd(rate, new_rate)
        self.old, self.new = rate // divisor, new_rate // divisor
        self.unchanged = rate == new_rate
        self._cutoff = _ROLL_OFF * min(1.0, self.new / self.old)
        self._reach = math.floor(_CROSSINGS / self._cutoff) + 1
        period = self.old + 2 * self._reach
        self._many_phases = period * self.new > _MOST_WEIGHTS or (
            self.new > 1 and period > _MOST_PERIOD
        )
        # torchaudio's filters start at multiples of `old` samples.
        self._step = 1 if self._many_phases else self.new
        self._block = self._step * -(-_BLOCK // self._step)

    def length(self, samples: int) -> int:
        """How many samples become of some."""
        return -(-samples * self.new // self.old)

    def blocks(self, outputs: range) -> Iterator[range]:
        """The blocks that hold some resampled samples; where nothing is resampled, those alone."""
        if self.unchanged:
            first, last = outputs.start, outputs.stop
        else:
            first, last = outputs.start // self._block * self._block, sys.maxsize
        for start in range(first, outputs.stop, self._block):
            yield range(start, min(start + self._block, last))

    def inputs(self, block: range) -> range:
        """What a block is computed from, as far as there are such samples."""
        if self.unchanged:
            return block
        margin = self._reach if self._many_phases else (self._reach // self.old + 2) * self.old
        first = block.start // self._step * self.old * self._step // self.new
        last = -(-block.stop * self.old // self.new)
        return range(max(0, first - margin), last + margin)

    def __call__(self, samples: Samples, inputs: range, outputs: range) -> Samples:
        """A block, or its beginning where the recording ends.

        Args:
            samples: Those of `inputs` that there are; zeros follow.
            inputs: Of the block.
            outputs: Which resampled samples are wanted.
        """
        if self.unchanged:
            return samples
        if self._many_phases:
            return self._interpolated(samples, inputs.start, outputs)
        resampled = _convolved(samples, self.old, self.new)
        before = outputs.start - inputs.start // self.old * self.new
        return resampled[before : before + len(outputs)]

    def _interpolated(self, samples: Samples, first: int, outputs: range) -> Samples:
        """The filter at the exact place of every sample, interpolated between phases."""
        filters, slopes = _filters(self._cutoff, self._reach)
        taps = filters.shape[1]
        # A window begins `reach` samples before its place, and the first of these in the padding.
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(samples, (self._reach, taps)), taps
        )
        resampled = np.empty(len(outputs), dtype=np.float32)
        chunk = max(1, _PRODUCTS // taps)
        for start in range(0, len(outputs), chunk):
            places = np.arange(start, min(start + chunk, len(outputs))) + outputs.start
            whole, part = np.divmod(places * self.old, self.new)
            phase, rest = np.divmod(part * (_PHASES / self.new), 1)
            rows = phase.astype(np.intp)
            kernels = slopes[rows]
            kernels *= rest.astype(np.float32)[:, None]
            kernels += filters[rows]
            kernels *= windows[whole - first]
            resampled[start : start + len(places)] = kernels.sum(axis=1)
        return resampled


def _convolved(samples: Samples, old: int, new: int) -> Samples:
    """torchaudio's resampling, the same however many threads torch has.

    torch convolves short inputs in another way if it has more than one.
    """
    functional = torchaudio_module("functional")
    waveform = torch.from_numpy(samples)
    if len(samples) < _SHORT:
        with one_thread():
            return functional.resample(waveform, old, new).numpy()
    with _THREADS:
        torch.get_num_threads()  # a new thread asks for the first time, and not amid the above
    return functional.resample(waveform, old, new).numpy()


@contextmanager
def one_thread() -> Iterator[None]:
    """Convolutions in here are the same however many threads torch has."""
    with _THREADS:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def resample(samples: Samples, rate: int, new_rate: int) -> Samples:
    """Band-limited resampling of `(samples,)` with a windowed sinc."""
    resampler = Resampler(rate, new_rate)
    pieces: list[Samples] = []
    length = resampler.length(len(samples))
    for block in resampler.blocks(range(length)):
        inputs = resampler.inputs(block)
        outputs = range(block.start, min(block.stop, length))
        pieces.append(resampler(samples[inputs.start : inputs.stop], inputs, outputs))
    return np.concatenate(pieces or [samples])


@lru_cache(maxsize=8)
def _filters(cutoff: float, reach: int) -> tuple[Samples, Samples]:
    """Hann-windowed sinc filters of evenly spaced phases, and the steps from each to the next.

    Args:
        cutoff: Zero crossings per sample.
        reach: Samples on either side.

    Returns:
        Both `(phases, 2 * reach + 1)`.
    """
    phases = np.linspace(0, 1, _PHASES + 1)
    places = (np.arange(-reach, reach + 1) - phases[:, None]) * cutoff
    window = np.cos(np.pi / 2 * np.clip(places / _CROSSINGS, -1, 1)) ** 2
    filters = cutoff * np.sinc(places) * window
    return filters[:-1].astype(np.float32), np.diff(filters, axis=0).astype(np.float32)
