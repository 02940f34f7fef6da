"""A base for what watches the operations of a network that nothing compiles."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class EagerMode(TorchDispatchMode):
    """A dispatch mode for networks run as they are written.

    PyTorch shields every other mode from its compiler, and imports that for it, which takes as long
    as all the rest of PyTorch.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
