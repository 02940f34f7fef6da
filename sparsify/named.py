"""What is imported when it is first needed, so that names are known without torch."""

from __future__ import annotations

import importlib
from typing import Any


def named(home: str) -> Any:
    """What a name such as `module:attribute`, one of ours, stands for; imports the module."""
    module, _, attribute = home.partition(":")
    return getattr(importlib.import_module(module), attribute)
