"""What a file is that was taken for one by `torch.save`, in words, and what to do about it."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

_SAVE = "where it was made, save torch.save(model.state_dict(), …)"
_HEAD = 512  # bytes that tell kinds of files apart
MOST_PICKLE = (
    1 << 23
)  # bytes of what describes tensors; unpickling can take a hundred times as much
OLD_PICKLES = 5  # that old files begin with
_MOST_SHOWN = 3
_MOST_HEADER = 100_000_000  # bytes of that of a safetensors file
# By how they begin, in lower case and without white space.
_STARTS = {
    (b"version https://git-lfs",): (
        "is a pointer of Git LFS, not the file itself: fetch that with git lfs pull"
    ),
    (b"<!doctype", b"<html", b"<?xml", b"<head"): (
        "is a web page, as a failed download leaves: download the model itself"
    ),
    (b"\x1f\x8b",): "is compressed by gzip: unpack it with gunzip",
    (b"gguf",): "is a GGUF file, which holds language models and is not read",
    (b"{", b"["): "is a text in JSON, no weights: give the file that they are in",
}
# Of what torch.save itself writes of tensors and plain values.
_PLAIN = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch", "Size"),
    ("torch", "device"),
}


def kind_of(path: Path) -> str | None:
    """What a file that `torch.load` cannot read is, and what to do; `None` if that is not known.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for starts, told in _STARTS.items():
        if head.lstrip().lower().startswith(starts):
            return told
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < _MOST_HEADER:
        return "is a safetensors file: name it .safetensors"
    if zipfile.is_zipfile(path):
        return _kind_of_archive(path)
    return None if head.startswith(b"\x80") else f"was not made by torch.save: {_SAVE}"


def _kind_of_archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        parts = [entry.filename.partition("/")[2] for entry in archive.infolist()]
    if any(part.startswith("code/") for part in parts):
        return (
            "is a TorchScript program, which is code and is not run: where you trust it, save"
            " torch.save(torch.jit.load(…).state_dict(), …)"
        )
    known = any(part == "data.pkl" for part in parts)
    return None if known else f"is an archive that torch.save has not made: unpack it, or {_SAVE}"


def objects_in(path: Path) -> str | None:
    """A sentence about objects in a file by `torch.save` that are no tensors or plain values.

    Their names are read, nothing is run or imported.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
    """
    names = list(dict.fromkeys(_names(path)))
    if not names:
        return None
    shown = ", ".join(f"{module}.{name}" for module, name in names[:_MOST_SHOWN])
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    if any(_is_module(module) for module, _ in names):
        return f"holds a whole network ({shown}{more}), which is code and is not run: {_SAVE}"
    return f"holds objects beside the weights ({shown}{more}), which are not read: {_SAVE}"


def _is_module(name: str) -> bool:
    return name.startswith("torch.nn.")


def _names(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of everything that is not plain in the pickles of a file."""
    for text in _pickles(path):
        strings: list[str] = []
        try:
            for operation, argument, _ in pickletools.genops(text):
                if operation.name in ("GLOBAL", "INST"):
                    module, _, name = str(argument).partition(" ")
                elif operation.name == "STACK_GLOBAL" and len(strings) > 1:
                    module, name = strings[-2:]
                else:
                    if isinstance(argument, str):
                        strings = [*strings[-1:], argument]
                    continue
                storage = module == "torch" and name.endswith("Storage")
                if (module, name) not in _PLAIN and not storage:
                    yield module, name
        except (ValueError, pickle.UnpicklingError):  # where it is damaged
            continue


def _pickles(path: Path) -> Iterator[bytes | io.BytesIO]:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            text = io.BytesIO(file.read(MOST_PICKLE))
        for _ in range(OLD_PICKLES):
            yield text
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".pkl") and entry.file_size <= MOST_PICKLE:
                yield archive.read(entry)
