"""What is told of a model file, kept: what was counted once is told again without PyTorch.

Counting takes PyTorch, whose import takes seconds, but what comes out depends on the content of the
file and on the code that counts. So it is kept in the user's cache, under a digest of both. That
holds for the files that sparsify has written and nobody has changed, of networks of registered
names. Others may be told by what lies beside them, or by code of their own.

Importing this module takes no torch.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sparsify.artifact.formats import Format, format_named, format_of, is_exported_folder
from sparsify.artifact.places import model_file
from sparsify.files import content_digest, size_bytes
from sparsify.sparsity.table import LayerSparsity, SparsityTable
from sparsify.sparsity.work import NO_WORK, Work, total_work
from sparsify.user_cache import Shelf, code_digest

_SHELF = Shelf("accounts", 1 << 24)
_MOST_BYTES = 1 << 30  # of a file whose digest is worth its time
_VERSIONED = ("torch", "onnx", "sparsify-speaker")
_COUNTING = (
    *("sparsify", "sparsify.artifact", "sparsify.audio", "sparsify.models", "sparsify.recipe"),
    *("sparsify.sparsity", "sparsify.exporters", "sparsify.exporters.mnn"),
    *("sparsify.exporters.native", "sparsify.exporters.onnx"),
)
"""The packages whose code decides what is told."""


@dataclass(frozen=True)
class Counted:
    """The multiply-adds of a file.

    Attributes:
        frames: Of the utterance they are counted for.
        by_weight: Those of every weight that multiplies; `None` where they are not known.
        why_not: Why they are not.
    """

    frames: int
    by_weight: Mapping[str, Work] | None = None
    why_not: str | None = None

    def of(self, layers: Iterable[LayerSparsity]) -> Work | None:
        """Those of some layers together, if they are known."""
        if self.by_weight is None:
            return None
        return total_work(self.by_weight.get(layer.name, NO_WORK) for layer in layers)

    def to_json(self, layers: Iterable[LayerSparsity]) -> dict[str, Any]:
        """`multiply_adds mac_sparsity` of some layers, both null where they are not known."""
        work = self.of(layers)
        return {
            "multiply_adds": work.multiply_adds if work else None,
            "mac_sparsity": work.sparsity if work else None,
        }


@dataclass(frozen=True)
class Account:
    """What is told of a model file without computing anything with it.

    Attributes:
        path: The file.
        format: Its format.
        layout: How it stores its zeros.
        quantised: Whether it computes in integers.
        takes_samples: Whether it computes its features itself.
        collapsed: Why the model cannot verify speakers, if it cannot.
        ignore: Names that its recipe protects from pruning; `None` where no network is known.
        left_out: Sentences about what may be weights and was not counted.
        table: Its parameters.
        counted: Its multiply-adds.
        bytes: Size of what is deployed.
        zipped_bytes: That after deflate.
        entropy_bytes: The entropy of what it holds, where the tensors are all there.
    """

    path: Path
    format: Format
    layout: str
    quantised: bool
    takes_samples: bool
    collapsed: str | None
    ignore: Sequence[str] | None
    left_out: Sequence[str]
    table: SparsityTable
    counted: Counted
    bytes: int
    zipped_bytes: int
    entropy_bytes: int | None


def account_key(path: Path) -> str | None:
    """What the account of a model is kept under; `None` if it cannot be read or is too large.

    Args:
        path: A file, or a run directory.

    Raises:
        SparsifyError: It is no model.
    """
    file = model_file(path)
    try:
        format_ = format_of(file)
        files = [each for each in format_.files(file) if each.exists()]
        if not files or not all(each.is_file() or is_exported_folder(each) for each in files):
            return None
        if sum(map(size_bytes, files)) > _MOST_BYTES:
            return None
        digests = {each.name.removeprefix(file.name): content_digest(each) for each in files}
    except OSError:  # which is told by what reads it
        return None
    told = {
        "format": format_.name,
        "files": digests,
        "versions": {name: metadata.version(name) for name in _VERSIONED},
        "code": code_digest(*_COUNTING),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def kept_account(path: Path) -> Account | None:
    """What was told of the same model before, if that is kept.

    Args:
        path: A file, or a run directory.

    Raises:
        SparsifyError: It is no model.
    """
    key = account_key(path)
    content = None if key is None else _SHELF.get(key)
    return None if content is None else _from_json(content, model_file(path))


def keep_account(key: str, account: Account) -> None:
    """Keeps what is told of a model.

    Args:
        key: As `account_key` gives it before and after the model was read.
        account: Of that model.
    """
    told = {**asdict(account), "path": None, "format": account.format.name}
    _SHELF.put(key, zlib.compress(json.dumps(told).encode()))


def _from_json(content: bytes, path: Path) -> Account:
    told = json.loads(zlib.decompress(content))
    counted, layers = told["counted"], told["table"]["layers"]
    by_weight = counted["by_weight"]
    return Account(
        **told
        | {
            "path": path,
            "format": format_named(told["format"]),
            "table": SparsityTable(
                tuple(LayerSparsity(**each | {"shape": tuple(each["shape"])}) for each in layers)
            ),
            "counted": Counted(
                counted["frames"],
                None if by_weight is None else {name: Work(*w) for name, w in by_weight.items()},
                counted["why_not"],
            ),
        }
    )
