"""The centre of the embeddings, which scoring subtracts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sparsify.audio.features import Filterbank
from sparsify.corpus.cache import AudioCache
from sparsify.corpus.corpus import Corpus
from sparsify.errors import SparsifyError

MOST_UTTERANCES = 2000


def mean_embedding(
    network: nn.Module, corpus: Corpus, cache: AudioCache, filterbank: Filterbank, seed: int
) -> Tensor:
    """The mean embedding `(D,)`, float32, of up to 2000 training utterances, whole and clean.

    Args:
        network: The embedding network; put into eval mode.
        corpus: Where the utterances are drawn from.
        cache: Their audio; what cannot be decoded is reported to its `broken` and left out.
        filterbank: On the network's device.
        seed: Seed of the draw.

    Raises:
        SparsifyError: None of the utterances can be decoded, or too many cannot.
    """
    network.eval()
    order = np.random.default_rng(seed).permutation(len(corpus.utterances))[:MOST_UTTERANCES]
    total, count = torch.zeros((), dtype=torch.float64), 0
    for index in order:
        utterance = corpus.utterances[index]
        if utterance.key in cache.broken:
            continue
        try:
            waveform = torch.from_numpy(cache.waveform(utterance))
        except SparsifyError as error:
            cache.broken.report(utterance.key, error)
            continue
        with torch.inference_mode():
            feats = filterbank(waveform[None].to(filterbank.window.device))
            total = total + network(feats)[0].double().cpu()
        count += 1
    if not count:
        raise SparsifyError("no training utterance can be decoded: repair the corpus")
    return (total / count).float()
