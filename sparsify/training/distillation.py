"""The model whose embeddings are learnt."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.artifact.artifact import load_artifact
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import FrontEnd
from sparsify.training.compute import Compute


class Teacher:
    """A trained model, in eval mode, that computes the wanted embeddings.

    Args:
        path: Run directory or artifact.
        front_end: The features that it is given.
        embedding_dim: Size of the embeddings of the network that learns.
        compute: Where and how precisely it computes.
        trust: Whether the file may name code as its network.

    Raises:
        SparsifyError: The model cannot be read, or expects other features, or has embeddings of
            another size, or names code and is not trusted.
    """

    def __init__(
        self, path: str, front_end: FrontEnd, embedding_dim: int, compute: Compute, *, trust: bool
    ) -> None:
        artifact = load_artifact(path, trust=trust)
        self._network = artifact.build()
        if artifact.front_end != front_end:
            raise SparsifyError(
                f"the teacher '{path}' expects another front end ({artifact.front_end}): give the"
                " recipe the same front_end"
            )
        with torch.inference_mode():
            size = self._network(torch.zeros(1, 100, front_end.num_mel_bins)).shape[1]
        if size != embedding_dim:
            raise SparsifyError(
                f"the teacher '{path}' has embeddings of {size} numbers and the model of"
                f" {embedding_dim}: they must be equal (model.options.embedding_dim)"
            )
        self._network.to(compute.device).requires_grad_(False)
        self._compute = compute

    def __call__(self, feats: Tensor) -> Tensor:
        """Embeddings `(B, D)`, float32, of features `(B, T, F)`."""
        with torch.no_grad(), self._compute.autocast():
            embeddings: Tensor = self._network(feats)
        return embeddings.float()
