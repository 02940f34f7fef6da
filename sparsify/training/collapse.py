"""Whether a trained network tells speakers apart at all, and if not, which layer died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparsify.training.validation_speech import ValidationSpeech

_UTTERANCES, _FRAMES = 32, 200
_ALIKE = 1e-6  # of the largest value: what float32 leaves of a difference
_CHANCE = 50.0  # percent
_FEW = 30  # target trials, that tell nothing of chance


def collapse_of(
    network: nn.Module,
    speech: ValidationSpeech,
    figures: Mapping[str, Any],
    device: torch.device,
) -> str | None:
    """Why a network cannot verify speakers, and what to do; `None` if it may.

    It cannot if it gives all utterances the same embedding, or if its EER is that of chance on
    trials enough to tell.

    Args:
        network: The embedding network; put into eval mode.
        speech: What it was validated on.
        figures: Its `eer_percent` there.
        device: Where the network lives.
    """
    some = speech.features[:_UTTERANCES]
    frames = min(_FRAMES, *(len(each) for each in some))
    # Of one length, for the edges of padded convolutions tell lengths apart.
    batch = torch.stack([torch.from_numpy(each[:frames]) for each in some])
    embeddings, layers = _outputs(network, batch.to(device))
    if _alike(embeddings):
        dead = _first_dead(layers)
        return (
            f"all utterances have the same embedding, since nothing passes {dead}: protect it with"
            f" --set 'model.ignore=[{dead}.*]', or ask for less sparsity"
        )
    if figures["eer_percent"] >= _CHANCE and speech.trials.targets.sum() >= _FEW:
        return (
            f"its validation EER of {figures['eer_percent']:.2f}% is that of chance: train longer,"
            " with another learning rate, or ask for less sparsity"
        )
    return None


def _outputs(network: nn.Module, batch: Tensor) -> tuple[Tensor, list[tuple[str, bool, bool]]]:
    """Embeddings, and of each layer in order: name, whether it has weights, whether it is dead."""
    layers: list[tuple[str, bool, bool]] = []

    def note(name: str, module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, tuple):  # of a recurrent layer, with its state
            output = output[0]
        if isinstance(output, Tensor) and output.is_floating_point() and output.numel():
            weighty = next(module.parameters(), None) is not None
            layers.append((name, weighty, _alike(output)))

    hooks = [
        module.register_forward_hook(partial(note, name))
        for name, module in network.named_modules()
        if name and next(module.children(), None) is None
    ]
    network.eval()
    try:
        with torch.inference_mode():
            return network(batch).float(), layers
    finally:
        for hook in hooks:
            hook.remove()


def _alike(output: Tensor) -> bool:
    """Whether the utterances of a batch, `(B, …)`, all have the same."""
    spread = output.amax(dim=0) - output.amin(dim=0)
    return bool(spread.max() <= _ALIKE * output.abs().max())


def _first_dead(layers: Sequence[tuple[str, bool, bool]]) -> str:
    """The layer from which on all are dead; of one without weights, the weights before it."""
    alive = [place for place, (_, _, dead) in enumerate(layers) if not dead]
    place = alive[-1] + 1 if alive else 0
    before = [name for name, weighty, _ in layers[: place + 1] if weighty]
    return before[-1] if before else layers[0][0]
