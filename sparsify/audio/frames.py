"""How many frames speech has; importing this module takes no torch."""

from __future__ import annotations

from sparsify.recipe.sections import FrontEnd

FRAME_SECONDS = 0.025
SHIFT_SECONDS = 0.010
"""From one frame to the next."""


def frame_count(front_end: FrontEnd, seconds: float) -> int:
    """How many frames the features of some seconds of speech have."""
    rate = front_end.sample_rate
    samples, shift = int(seconds * rate), int(rate * SHIFT_SECONDS)
    if front_end.preset == "speechbrain":
        return samples // round(rate * SHIFT_SECONDS) + 1
    length = int(rate * FRAME_SECONDS)
    if front_end.preset == "wespeaker":
        return (samples - length) // shift + 1
    if front_end.preset == "tfmel":
        return (samples + shift // 2 * 2 - length) // shift + 1
    if front_end.preset == "resemblyzer":
        return samples // shift + 1
    return centred_frames(samples, shift)


def centred_frames(samples: int, shift: int) -> int:
    """How many frames there are where each is centred on a multiple of the shift."""
    return (samples + shift // 2) // shift
