"""sparsify: speaker-verification models of exactly the sparsity you ask for.

Names are imported when they are first used, so that the command line can answer without torch.
"""

import ast
import importlib
import os
from pathlib import Path
from typing import Any

# From 1.29 on onnxruntime reports its use to its maker and gives the machine a number, unless this
# is set when it is first imported. Nothing of a model or of speech shall leave a machine unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# The stub, which type checkers read in place of this file, says which names there are, and where.
_HOMES = {
    name.name: str(statement.module)
    for statement in ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8")).body
    if isinstance(statement, ast.ImportFrom)
    for name in statement.names
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sparsify' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
