"""How small MPEG's neural network coding (ISO/IEC 15938-17) makes a model, at equal error.

Its reference software, `nncodec`, needs older packages than ours: it runs in a Python of its own,
`python -m venv nnc; nnc/bin/pip install nncodec`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import torch

from sparsify.artifact.artifact import Artifact
from sparsify.errors import SparsifyError
from sparsify.exporters.networks import torch_network
from sparsify.exporters.parity import check_parity

_FINEST, _COARSEST = -60, -8  # step sizes: 4 more are twice as large
_CODE = """
import sys
import numpy as np
from nncodec import nn

state = dict(np.load(sys.argv[1]))
stream = nn.encode(state, {"qp": int(sys.argv[2])})
np.savez(sys.argv[3], **nn.decode(stream), bytes=len(stream))
"""


class NeuralNetworkCoding:
    """The files that nncodec makes of a model.

    Args:
        python: An interpreter that has nncodec.
        artifact: The model.
        folder: A folder for its files.
    """

    def __init__(self, python: Path, artifact: Artifact, folder: Path) -> None:
        self._python, self._artifact, self._folder = python, artifact, folder
        self._known: dict[int, tuple[int, float]] = {}
        self._reference = torch_network(artifact.build())
        self._floats = {
            name: tensor.numpy()
            for name, tensor in artifact.state.items()
            if tensor.is_floating_point()
        }

    def bytes_at(self, cosine: float) -> int:
        """Bytes of the smallest file whose embeddings have that cosine with the model's, or more.

        Args:
            cosine: The smallest of those that `check_parity` finds.
        """
        fine, coarse = _FINEST, _COARSEST
        while coarse - fine > 1:
            middle = (fine + coarse) // 2
            fine, coarse = (middle, coarse) if self._at(middle)[1] >= cosine else (fine, middle)
        return self._at(fine)[0]

    def _at(self, step: int) -> tuple[int, float]:
        """Bytes and cosine of a file."""
        if step not in self._known:
            self._known[step] = self._measured(step)
        return self._known[step]

    def _measured(self, step: int) -> tuple[int, float]:
        source, result = self._folder / "state.npz", self._folder / "decoded.npz"
        np.savez(source, **self._floats)  # type: ignore[arg-type, unused-ignore]
        done = subprocess.run(
            [self._python, "-c", _CODE, source, str(step), result],
            cwd=self._folder,  # where it leaves its streams
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SparsifyError(f"nncodec failed: {done.stderr.strip()[-300:]}")
        with np.load(result) as decoded:
            size = int(decoded["bytes"])
            state = {
                name: torch.from_numpy(decoded[name].reshape(values.shape).astype(np.float32))
                for name, values in self._floats.items()
            }
        changed = self._artifact.with_state({**self._artifact.state, **state})
        found = check_parity(
            self._reference,
            torch_network(changed.build()),
            front_end=self._artifact.front_end,
        )
        return size, found.cosine_min
