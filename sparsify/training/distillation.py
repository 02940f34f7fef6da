"""The model whose embeddings are learnt."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.artifact.loading import load_artifact
from sparsify.audio.features import Filterbank
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import FrontEnd
from sparsify.training.compute import Compute
from sparsify.training.embedding_size import embedding_size


class Teacher:
    """A trained model, in eval mode, that computes the wanted embeddings.

    It hears what the network that learns hears, and computes features of its own where its front
    end is another.

    Args:
        path: Run directory or artifact.
        front_end: That of the network that learns.
        embedding_dim: Size of the embeddings of the network that learns.
        compute: Where and how precisely it computes.
        trust: Whether the file may name code as its network.

    Raises:
        SparsifyError: The model cannot be read, or expects another sample rate, or has embeddings
            of another size, or names code and is not trusted.
    """

    def __init__(
        self, path: str, front_end: FrontEnd, embedding_dim: int, compute: Compute, *, trust: bool
    ) -> None:
        artifact = load_artifact(path, trust=trust)
        self._network = artifact.build()
        own = artifact.front_end
        if own.sample_rate != front_end.sample_rate:
            raise SparsifyError(
                f"the teacher '{path}' hears {own.sample_rate} Hz and the model"
                f" {front_end.sample_rate}: they must be equal (front_end.sample_rate)"
            )
        self._filterbank = None if own == front_end else Filterbank(own).to(compute.device)
        size = embedding_size(self._network, path, own.num_mel_bins)
        if size != embedding_dim:
            raise SparsifyError(
                f"the teacher '{path}' has embeddings of {size} numbers and the model of"
                f" {embedding_dim}: they must be equal (model.options.embedding_dim)"
            )
        self._network.to(compute.device).requires_grad_(False)
        self._compute = compute

    def __call__(self, waveforms: Tensor, feats: Tensor) -> Tensor:
        """Embeddings `(B, D)`, float32.

        Args:
            waveforms: `(B, samples)`.
            feats: What the network that learns sees of them, `(B, T, F)`.
        """
        with torch.no_grad(), self._compute.autocast():
            embeddings: Tensor = self._network(
                self._filterbank(waveforms) if self._filterbank else feats
            )
        return embeddings.float()
