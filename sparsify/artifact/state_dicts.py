"""Reads PyTorch's `.pt` files: state dicts, whatever wraps them."""

from __future__ import annotations

import mmap
import pickle
import pickletools
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsify.artifact.plain import plain
from sparsify.artifact.room import Room
from sparsify.artifact.strange_files import MOST_PICKLE, OLD_PICKLES, kind_of, objects_in
from sparsify.artifact.weights import Weights
from sparsify.errors import SparsifyError, damaged
from sparsify.tensors import arrays_of

_DEEPEST = 8  # mappings within mappings
_MOST_NAMED = 5
# The one type that unpickling fills with as many bytes as a number says.
_BYTES_BY_LENGTH = b"bytearray"
_HOLDS_MUCH = (
    f"it holds more than {MOST_PICKLE >> 20} MiB beside its tensors: save the state dict alone,"
    " with torch.save(model.state_dict(), …)"
)
_ARCHIVE = b"PK\3\4"
_HOLDS_BYTES = "it holds a bytearray, which no state dict needs: save tensors and plain values"
# Of DistributedDataParallel, torch.compile, Lightning and voxceleb_trainer.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "__S__.")
# What unpickling bytes that are no pickle can end in.
PICKLE_ERRORS = (
    pickle.PickleError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    ImportError,
    NameError,
    BufferError,
    MemoryError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_pt(path: Path) -> Weights:
    """The state dict in a file by `torch.save`, whatever wraps it.

    Raises:
        SparsifyError: It is damaged, holds something else, or would become absurdly large.
        OSError: It cannot be read.
    """
    try:
        stored = stored_bytes(path)
        with warnings.catch_warnings():  # PyTorch's about itself
            warnings.simplefilter("ignore")
            # PyTorch trusts the indices of sparse tensors otherwise, and crashes.
            with torch.sparse.check_sparse_tensor_invariants(enable=True):
                content: Any = torch.load(path, map_location="cpu", weights_only=True)
            tensors = _state_dict(content)
            return Weights(arrays_of(_dense(tensors, stored)))
    except PICKLE_ERRORS as error:
        # PyTorch goes on to advise how to switch off what protects from code.
        if told := _told(path):
            raise SparsifyError(f"'{path}' {told}") from error
        if isinstance(error, pickle.UnpicklingError):
            error = ValueError("it is no pickle of plain values")
        raise damaged(path, error) from error
    except SparsifyError as error:
        raise SparsifyError(f"'{path}': {error}") from error


def _told(path: Path) -> str | None:
    """What a file that cannot be read is, unless it is too damaged to tell."""
    try:
        return kind_of(path) or objects_in(path)
    except PICKLE_ERRORS:
        return None


def stored_bytes(path: Path) -> int:
    """What a file by `torch.save` holds: more than its size where somebody has compressed it.

    Call it before `torch.load`, which believes what the file says of sizes.

    Raises:
        SparsifyError: It would become absurdly large.
        OSError: It cannot be read.
        EOFError: It is empty.
        zipfile.BadZipFile: It is damaged.
    """
    size = path.stat().st_size
    if not size:
        raise EOFError("it is empty")
    if not _is_archive(path):
        _check_old(path)
        return size
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        Room(size).take("its content", [unpacked], 1)
        for entry in archive.infolist():
            if not entry.filename.endswith(".pkl"):
                continue
            if entry.file_size > MOST_PICKLE:
                raise SparsifyError(_HOLDS_MUCH)
            if _BYTES_BY_LENGTH in archive.read(entry):
                raise SparsifyError(_HOLDS_BYTES)
    return unpacked


def _is_archive(path: Path) -> bool:
    """Whether `torch.load` takes a file for an archive: it looks at the beginning alone."""
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def _check_old(path: Path) -> None:
    """Looks into a file of the old form: pickles one behind the other, then the numbers."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if text.find(_BYTES_BY_LENGTH) >= 0:
            raise SparsifyError(_HOLDS_BYTES)
        with suppress(ValueError):  # of what is no pickle, which `torch.load` finds as well
            for _ in range(OLD_PICKLES):
                for _, _, place in pickletools.genops(file):
                    if (place or 0) > MOST_PICKLE:
                        raise SparsifyError(_HOLDS_MUCH)


def _state_dict(content: Any) -> dict[str, Tensor]:
    """The one mapping of tensors in what a file holds, wherever it is."""
    everything = dict(_mappings(content, (), set()))
    found: dict[tuple[str, ...], dict[str, Tensor]] = {}
    for rank in (2, 1, 0):  # beside weights there may be means and counters, which are no matrices
        found = found or {
            path: tensors
            for path, tensors in everything.items()
            if any(tensor.dim() >= rank for tensor in tensors.values())
        }
    if not found:
        raise SparsifyError(
            "it does not hold a state dict: save it with torch.save(model.state_dict(), …)"
        )
    if len(found) > 1:
        *first, last = [_shown(key) for key in found][:_MOST_NAMED]
        raise SparsifyError(
            f"it holds several state dicts, {', '.join(first)} and {last}: save the one you mean,"
            f" as in torch.save(torch.load(…){_shown(next(iter(found)))}, …)"
        )
    (tensors,) = found.values()
    return without_wrappers({name: tensor.detach() for name, tensor in tensors.items()})


def without_wrappers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what frameworks put before all names of the network they wrap."""
    found = dict(tensors)
    for _ in range(_DEEPEST):
        shared = [each for each in _WRAPPERS if all(name.startswith(each) for name in found)]
        if not shared:
            break
        found = {name.removeprefix(shared[0]): tensor for name, tensor in found.items()}
    return found


def _mappings(
    content: Any, path: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """The mappings of names to tensors, counters beside them left out, and where they are.

    What optimizers keep lies under the numbers of parameters, which are no names. A mapping that is
    found in several places is looked at once.
    """
    if not isinstance(content, Mapping) or len(path) > _DEEPEST or id(content) in seen:
        return
    seen.add(id(content))
    if not all(isinstance(key, str) for key in content):
        return
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield path, tensors
    for key, value in content.items():
        yield from _mappings(value, (*path, key), seen)


def _shown(path: Sequence[str]) -> str:
    return "".join(f"[{key!r}]" for key in path) or "the outermost"


def _dense(tensors: Mapping[str, Tensor], stored: int) -> dict[str, Tensor]:
    if any(tensor.is_meta for tensor in tensors.values()):
        raise SparsifyError("it holds names and shapes without values: save the weights too")
    if nested := next((name for name, tensor in tensors.items() if tensor.is_nested), None):
        raise SparsifyError(f"tensor '{nested}' is nested: save plain tensors")
    room = Room(stored)
    for name, tensor in tensors.items():
        room.take(f"tensor '{name}'", tensor.shape, max(tensor.element_size(), 4))
    if _storage_bytes(tensors.values()) > stored:
        raise SparsifyError("its tensors are larger than the file")
    return {name: plain(name, tensor) for name, tensor in tensors.items()}


def _storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes behind the dense tensors, shared ones counted once."""
    storages = (t.untyped_storage() for t in tensors if t.layout is torch.strided)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
