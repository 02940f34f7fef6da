"""Mel filterbank features, batched and on any device."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsify.audio._torchaudio import torchaudio_module
from sparsify.audio.frames import FRAME_SECONDS, SHIFT_SECONDS, centred_frames
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import FrontEnd, OwnFrontEnd

PREEMPHASIS = 0.97
FULL_SCALE = 2.0**15
SPEECHBRAIN_FLOOR = 1e-10
SPEECHBRAIN_RANGE_DB = 80.0
_LOW_FREQUENCY = 20.0
_FRAMES_AT_ONCE = 1 << 14
_SPEECHBRAIN_FFT = 400
TFMEL_FLOOR = 1e-8  # of what is divided by or taken the logarithm of
ENERGIES = ("resemblyzer",)
"""Front ends that take no logarithm and subtract no mean."""
RESEMBLYZER_LEVEL = 10 ** (-30 / 20)  # to which quieter utterances are raised
_TFMEL_BAND = (20.0, 0.475)  # in Hz, and as a share of the sample rate: 7600 Hz at 16 kHz


Features: TypeAlias = NDArray[np.float32]
"""What a model is given of an utterance: `(T, num_mel_bins)`, or its samples `(samples,)`."""


def features_of(front_end: FrontEnd) -> Callable[[NDArray[np.float32]], Features]:
    """From the samples of an utterance, in [-1, 1], to what a model is given.

    Args:
        front_end: Of the model.

    Raises:
        SparsifyError: In a call, the samples are less than one frame (25 ms).
    """
    filterbank = Filterbank(front_end)
    return filterbank.checked if isinstance(front_end, OwnFrontEnd) else filterbank.features


def input_shape(front_end: FrontEnd, frames: int) -> tuple[int, ...]:
    """The shape of what a model is given of an utterance of so many frames."""
    if not isinstance(front_end, OwnFrontEnd):
        return frames, front_end.num_mel_bins
    filterbank = Filterbank(front_end)
    if front_end.preset == "sherpa":
        return (frames * filterbank.shift,)
    first = filterbank.length if filterbank.snip_edges else 0
    if front_end.preset == "tfmel":
        first = filterbank.length - 2 * (filterbank.shift // 2)
    return (first + (frames - 1) * filterbank.shift,)


class Filterbank(nn.Module):
    """Log-mel filterbank with the per-utterance mean subtracted.

    The numbers of Kaldi's compute-fbank-feats without dither (torchaudio.compliance.kaldi.fbank),
    for waveforms scaled to 16-bit range: the front end of sherpa-onnx (Povey window, band up to
    400 Hz below Nyquist, frames centred on multiples of the shift with reflected edges) or of
    WeSpeaker (Hamming window, full band, whole frames only). Or those of SpeechBrain: Fbank, in
    decibels within 80 dB of the loudest, and InputNormalization over the sentence, mean only. Or
    those of `tfmel` in WeSpeaker, for ReDimNet2: of a whole utterance that is brought to mean
    0 and deviation 1 and pre-emphasised, with half a shift of zeros at both ends. Or those of
    Resemblyzer 0.1.4: energies, no logarithms, without any mean subtracted, of an utterance that is
    raised to -30 dB of full scale if it is quieter; silences are not cut out.

    Raises:
        SparsifyError: The sample rate is too high for SpeechBrain's transform of 400 samples.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        rate = front_end.sample_rate
        self.front_end = front_end
        self.length = int(rate * FRAME_SECONDS)
        self.shift = int(rate * SHIFT_SECONDS)
        self.snip_edges = front_end.preset == "wespeaker"
        if front_end.preset == "speechbrain":
            self.length, self.shift = round(rate * FRAME_SECONDS), round(rate * SHIFT_SECONDS)
            self.fft_length = _SPEECHBRAIN_FFT
            window = torch.hamming_window(self.length)
            filters = _speechbrain_filters(front_end)
        elif front_end.preset == "resemblyzer":
            self.fft_length = self.length
            window = torch.hann_window(self.length)
            filters = torchaudio_module("functional").melscale_fbanks(
                self.length // 2 + 1,
                0.0,
                rate / 2,
                front_end.num_mel_bins,
                rate,
                norm="slaney",
                mel_scale="slaney",
            )
        else:
            self.fft_length = 1 << (self.length - 1).bit_length()
            window = (
                torch.hann_window(self.length, periodic=False).pow(0.85)
                if front_end.preset == "sherpa"
                else torch.hamming_window(self.length, periodic=False)
            )
            if front_end.preset == "tfmel":
                filters = _tfmel_filters(front_end, self.fft_length // 2)
            else:
                filters = self._kaldi_filters()
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Computes features in float32, also under autocast.

        Args:
            waveforms: Samples in [-1, 1], `(B, samples)`.

        Returns:
            Features `(B, T, num_mel_bins)`.

        Raises:
            SparsifyError: The waveforms are shorter than one frame (25 ms).
        """
        self._check_length(waveforms.shape[-1])
        computed = {
            "speechbrain": self._speechbrain,
            "tfmel": self._tfmel,
            "resemblyzer": self._resemblyzer,
        }
        with torch.autocast(waveforms.device.type, enabled=False):
            features = computed.get(self.front_end.preset, self._kaldi)(waveforms.float())
            if self.front_end.preset in ENERGIES:
                return features
            return features - features.mean(dim=1, keepdim=True)

    def checked(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples themselves, in float32.

        Raises:
            SparsifyError: The waveform is shorter than one frame (25 ms).
        """
        self._check_length(len(waveform))
        return np.ascontiguousarray(waveform, dtype=np.float32)

    def features(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features `(T, num_mel_bins)` of one waveform `(samples,)` in [-1, 1], on the CPU.

        Raises:
            SparsifyError: The waveform is shorter than one frame (25 ms).
        """
        with torch.inference_mode():
            samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
            features: NDArray[np.float32] = (
                self(samples[None].to(self.window.device))[0].cpu().numpy()
            )
        return features

    def _check_length(self, samples: int) -> None:
        if samples < self.length:
            raise SparsifyError(
                f"{samples} samples are shorter than one frame of {self.length}: give longer audio"
            )

    def _kaldi(self, waveforms: Tensor) -> Tensor:
        # Frames overlap and their spectra are large: of a long recording they are taken in parts.
        parts = self._frames(waveforms * FULL_SCALE).split(_FRAMES_AT_ONCE, dim=1)
        return torch.cat([self._log_energies(frames) for frames in parts], dim=1)

    def _log_energies(self, frames: Tensor) -> Tensor:
        frames = frames - frames.mean(dim=-1, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        windowed = (frames - PREEMPHASIS * previous) * self.window
        power = torch.fft.rfft(windowed, n=self.fft_length).abs().square()
        energies = power @ self.filters
        return energies.clamp_min(torch.finfo(torch.float32).eps).log()

    def _energies(self, waveforms: Tensor) -> Tensor:
        """Of frames that are centred, with zeros at both ends."""
        spectrum = torch.stft(
            waveforms,
            self.fft_length,
            self.shift,
            self.length,
            self.window,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.abs().square().transpose(1, 2) @ self.filters

    def _resemblyzer(self, waveforms: Tensor) -> Tensor:
        level = waveforms.square().mean(dim=1, keepdim=True).sqrt()
        gain = (RESEMBLYZER_LEVEL / level.clamp_min(1 / FULL_SCALE**2)).clamp_min(1)
        return self._energies(gain * waveforms)

    def _speechbrain(self, waveforms: Tensor) -> Tensor:
        energies = self._energies(waveforms)
        decibels = 10 * energies.clamp_min(SPEECHBRAIN_FLOOR).log10()
        loudest = decibels.amax(dim=(1, 2), keepdim=True)
        return decibels.maximum(loudest - SPEECHBRAIN_RANGE_DB)

    def _tfmel(self, waveforms: Tensor) -> Tensor:
        # In double precision, so that of a constant nothing is left that could be raised.
        centred = waveforms.double() - waveforms.double().mean(dim=1, keepdim=True)
        deviation = centred.square().mean(dim=1, keepdim=True).sqrt()
        level = (centred / (deviation + TFMEL_FLOOR)).to(waveforms.dtype)
        previous = torch.cat([level[:, 1:2], level[:, :-1]], dim=1)
        side = self.shift // 2
        padded = nn.functional.pad(level - PREEMPHASIS * previous, (side, side))
        windowed = padded.unfold(-1, self.length, self.shift) * self.window
        power = torch.fft.rfft(windowed, n=self.fft_length).abs().square()
        energies = power.clamp(TFMEL_FLOOR, 1 / TFMEL_FLOOR) @ self.filters
        return (energies.clamp(TFMEL_FLOOR, 1 / TFMEL_FLOOR) + TFMEL_FLOOR).log()

    def _kaldi_filters(self) -> Tensor:
        filters, _ = torchaudio_module("compliance.kaldi").get_mel_banks(
            self.front_end.num_mel_bins,
            self.fft_length,
            float(self.front_end.sample_rate),
            _LOW_FREQUENCY,
            0.0 if self.snip_edges else -400.0,
            vtln_low=100.0,
            vtln_high=-500.0,
            vtln_warp_factor=1.0,
        )
        # The filters have no weight at the Nyquist frequency, the last bin of the transform.
        return nn.functional.pad(filters, (0, 1)).T.contiguous()

    def _frames(self, waveforms: Tensor) -> Tensor:
        """Overlapping frames `(B, T, length)`."""
        if not self.snip_edges:
            samples = waveforms.shape[-1]
            count = centred_frames(samples, self.shift)
            before = self.length // 2 - self.shift // 2
            after = max(0, (count - 1) * self.shift + self.length - before - samples)
            mirrored = waveforms.flip(-1)
            waveforms = torch.cat(
                [mirrored[:, samples - before :], waveforms, mirrored[:, :after]], dim=-1
            )
        return waveforms.unfold(-1, self.length, self.shift)


def _tfmel_filters(front_end: FrontEnd, points: int) -> Tensor:
    """Triangles in mel, of half a transform whose last point is taken for the Nyquist frequency."""
    low, high = _TFMEL_BAND[0], _TFMEL_BAND[1] * front_end.sample_rate
    edges = torch.linspace(_mel(low), _mel(high), front_end.num_mel_bins + 2, dtype=torch.float64)
    frequencies = torch.linspace(0, front_end.sample_rate // 2, points, dtype=torch.float64)
    mels = 2595 * torch.log10(1 + frequencies[:, None] / 700)
    rising = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp_min(0)
    filters[0] = 0
    # The true Nyquist frequency has no weight.
    return nn.functional.pad(filters, (0, 0, 0, 1)).float()


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _speechbrain_filters(front_end: FrontEnd) -> Tensor:
    """Triangles in linear frequency, each as wide to the right as to the left."""
    if front_end.sample_rate * FRAME_SECONDS > _SPEECHBRAIN_FFT:
        raise SparsifyError(
            f"front end 'speechbrain' transforms {_SPEECHBRAIN_FFT} samples, too few for frames of"
            f" 25 ms at {front_end.sample_rate} Hz: set front_end.sample_rate=16000"
        )
    mels = torch.linspace(0, _mel(front_end.sample_rate // 2), front_end.num_mel_bins + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequencies = torch.linspace(0, front_end.sample_rate // 2, _SPEECHBRAIN_FFT // 2 + 1)
    slopes = (frequencies[:, None] - edges[1:-1]) / edges.diff()[:-1]
    return torch.minimum(slopes + 1, 1 - slopes).clamp_min(0)
