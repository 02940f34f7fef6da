"""Damage that keeps the form of a file: values of another type, extremes, parts that move."""

import copy
import io
import json
import pickletools
import random
import zipfile
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from .mutations import mutated

Mutate = Callable[[bytes, random.Random], bytes]

_NUMBERS = (
    *(0, -1, 1, 2, 17, 255, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**64, -(2**63), 10**19),
    *(0.5, -0.5, 1e-320, 1e300, -1e300, float("nan"), float("inf")),
)
_TEXTS = ("", "x", "1", "true", "λ", "a\0b", "\ud800", "\n", "../..", "/etc/passwd", "x" * 3000)
_OTHERS = (None, True, False, [], {}, [None], {"a": 1}, [[[]]], [1, "a"], {"": {}})
_SINGLE_OPCODES = tuple(b"N.0()]}\x88\x89\x85\x86\x87atesubR\x8fQ2")


def changed(value: Any, rng: random.Random) -> Any:
    """A JSON-like value with one to three places replaced, removed, repeated or renamed."""
    root = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(root))
        container, key = rng.choice(places)
        kind = rng.randrange(10)
        if kind < 7 or container is root:
            container[key] = _another(rng)
        elif kind == 7:
            del container[key]
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        else:
            container[rng.choice(_TEXTS)] = container.pop(key)
    return root[0]


def changed_json(data: bytes, rng: random.Random) -> bytes:
    """The same for JSON text."""
    text = json.dumps(changed(json.loads(data), rng))
    return text.encode("utf-8", "surrogatepass")


def changed_safetensors(data: bytes, rng: random.Random) -> bytes:
    """A file whose header, or what a string of its metadata says, is another."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.get("__metadata__", {})
    if metadata and rng.random() < 0.6:
        key = rng.choice(list(metadata))
        damaged = mutated(metadata[key].encode(), rng)[:50_000]
        metadata[key] = damaged.decode("utf-8", "replace")
    else:
        header = changed(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[start:]


def changed_zip(inner: Mutate) -> Mutate:
    """Damages an entry of an archive, and packs it again with the right checksum."""

    def change(data: bytes, rng: random.Random) -> bytes:
        output = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(list(entries))
        entries[name] = inner(entries[name], rng)
        if rng.random() < 0.1:
            del entries[name]
        kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        with zipfile.ZipFile(output, "w", kind) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return output.getvalue()

    return change


def changed_pickle(data: bytes, rng: random.Random) -> bytes:
    """A pickle, perhaps with something behind it, whose opcodes are others."""
    try:
        places = [place for _, _, place in pickletools.genops(data)]
    except (ValueError, LookupError, UnicodeDecodeError, TypeError):
        return mutated(data, rng)
    for _ in range(rng.choice((1, 1, 2))):
        number = rng.randrange(len(places))
        start = places[number]
        end = places[number + 1] if number + 1 < len(places) else start + 1
        integer = rng.choice([n for n in _NUMBERS if isinstance(n, int)])
        content = integer.to_bytes(10, "little", signed=True)
        replacement = rng.choice(
            (
                b"",
                data[start:end] * 2,
                bytes([rng.choice(_SINGLE_OPCODES)]),
                b"\x8a" + bytes([len(content)]) + content,  # LONG1
                b"X" + (3).to_bytes(4, "little") + b"abc",  # BINUNICODE
                data[(other := rng.choice(places)) : other + rng.randrange(1, 12)],
            )
        )
        data = data[:start] + replacement + data[end:]
        places = [place for place in places if place < start] or [0]
    return data


def changed_proto(kind: type[Message]) -> Mutate:
    """Sets, repeats or clears fields of a protobuf message."""

    def change(data: bytes, rng: random.Random) -> bytes:
        message = kind()
        message.ParseFromString(data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            _change_field(rng.choice(list(_messages(message))), rng)
        return message.SerializePartialToString()

    return change


def _places(container: Any) -> Any:
    keys = list(container) if isinstance(container, dict) else range(len(container))
    for key in keys:
        yield container, key
        if isinstance(container[key], (dict, list)):
            yield from _places(container[key])


def _another(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(rng.choice((_NUMBERS, _TEXTS, _OTHERS))))


def _messages(message: Message) -> Any:
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in value if field.is_repeated else [value]:
                yield from _messages(each)


def _change_field(message: Message, rng: random.Random) -> None:
    known = [field for field, _ in message.ListFields()]
    field = rng.choice(known if known and rng.random() < 0.8 else message.DESCRIPTOR.fields)
    if rng.random() < 0.2:
        message.ClearField(field.name)
    elif field.type == field.TYPE_MESSAGE:
        _change_messages(getattr(message, field.name), field.is_repeated, rng)
    elif field.is_repeated:
        values = getattr(message, field.name)
        if values and rng.random() < 0.7:
            values[rng.randrange(len(values))] = _scalar(field, rng)
        else:
            values.extend([_scalar(field, rng) for _ in range(rng.choice((1, 3, 100)))])
    else:
        setattr(message, field.name, _scalar(field, rng))


def _change_messages(value: Any, repeated: bool, rng: random.Random) -> None:
    if not repeated:
        value.SetInParent()
    elif value and rng.random() < 0.7:
        value.add().CopyFrom(rng.choice(value))
    else:
        value.add()


def _scalar(field: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice([text for text in _TEXTS if text != "\ud800"])
    if field.type == field.TYPE_BYTES:
        return rng.randbytes(rng.choice((0, 1, 4, 7, 100)))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return float(rng.choice((0, 1, -1, 1e38, float("nan"), float("inf"))))
    if field.type == field.TYPE_ENUM:
        return rng.choice([value.number for value in field.enum_type.values])
    limit = 2**31 if field.type == field.TYPE_INT32 else 2**63
    lowest = 0 if field.type == field.TYPE_UINT64 else -limit
    return rng.choice([n for n in _NUMBERS if isinstance(n, int) and lowest <= n < limit])
