"""The centre of the embeddings, which scoring subtracts."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor, nn

from sparsify.errors import SparsifyError
from sparsify.speech.cache import AudioCache
from sparsify.speech.corpus import Corpus
from sparsify.speech.features import Filterbank

logger = logging.getLogger(__name__)

MOST_UTTERANCES = 2000


def mean_embedding(
    network: nn.Module, corpus: Corpus, cache: AudioCache, filterbank: Filterbank, seed: int
) -> Tensor:
    """The mean embedding `(D,)`, float32, of up to 2000 training utterances, whole and clean.

    Args:
        network: The embedding network; put into eval mode.
        corpus: Where the utterances are drawn from.
        cache: Their audio; what cannot be decoded is left out.
        filterbank: On the network's device.
        seed: Seed of the draw.

    Raises:
        SparsifyError: None of the utterances can be decoded.
    """
    network.eval()
    order = np.random.default_rng(seed).permutation(len(corpus.utterances))[:MOST_UTTERANCES]
    total, count = torch.zeros((), dtype=torch.float64), 0
    for index in order:
        try:
            waveform = torch.from_numpy(cache.waveform(corpus.utterances[index]))
        except SparsifyError as error:
            logger.warning("skipping an utterance: %s", error)
            continue
        with torch.inference_mode():
            feats = filterbank(waveform[None].to(filterbank.window.device))
            total = total + network(feats)[0].double().cpu()
        count += 1
    if not count:
        raise SparsifyError("no training utterance can be decoded: repair the corpus")
    return (total / count).float()
