"""The only door to torchaudio: its failure to load becomes one sentence with the fix."""

from __future__ import annotations

import importlib
from types import ModuleType

from sparsify.errors import SparsifyError

_CUDA = ("libcu", "libtorch_cuda", "libc10_cuda")


def torchaudio_module(name: str) -> ModuleType:
    """Imports `torchaudio.<name>` when it is first needed.

    Raises:
        SparsifyError: torchaudio is missing or does not fit the installed torch: beside a torch of
            another CUDA version it raises RuntimeError, beside a CPU-only one OSError.
    """
    try:
        return importlib.import_module(f"torchaudio.{name}")
    except (ImportError, OSError, RuntimeError) as error:
        detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if any(library in detail for library in _CUDA):
            raise SparsifyError(
                f"torchaudio does not load ({detail}), because it is built with CUDA and the"
                " installed torch is not: take both from PyPI, which works without a GPU, too: pip"
                " install --force-reinstall 'torch>=2.11,<2.15' 'torchaudio==2.11.*'"
            ) from error
        raise SparsifyError(
            f"torchaudio does not load beside the installed torch ({detail}): install a matching"
            " pair with pip install 'torch>=2.11,<2.15' 'torchaudio==2.11.*'"
        ) from error
