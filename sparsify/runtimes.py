"""Packages that only some formats need, which are not installed with sparsify."""

from __future__ import annotations

import importlib
from types import ModuleType

from sparsify.errors import SparsifyError


class NotInstalledError(SparsifyError):
    """A package of an extra is missing."""


def import_runtime(module: str, extra: str) -> ModuleType:
    """A package of an extra.

    Args:
        module: What to import.
        extra: The extra of our package that installs it.

    Raises:
        NotInstalledError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise NotInstalledError(
            f"{module} is not installed: pip install 'sparsify-speaker[{extra}]'"
        ) from error
