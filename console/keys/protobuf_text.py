"""Protobuf without a schema, read off the wire, and the envelope Kubernetes stores. No Django.

The wire says field numbers and shapes only, so the reading is a guess and says so: a length-
delimited field is shown as a message where its bytes are one, else as text, else in hex.
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

DEPTH_MAX = 12
FIELDS_MAX = 20_000
TEXT_BYTES_MAX = 2000
"""A longer field is cut in the reading."""

KUBERNETES = b"k8s\x00"
"""What an object stored by a Kubernetes apiserver as protobuf begins with; a message
`runtime.Unknown` follows: typeMeta 1 {apiVersion 1, kind 2}, raw 2, contentEncoding 3,
contentType 4."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class NoMessage(ValueError):
    """These bytes are no protobuf message."""


@dataclass(frozen=True, slots=True)
class Field:
    """`value` is a number, or bytes for a length-delimited field."""

    number: int
    wire_type: int
    value: int | bytes


def fields_of(data: bytes) -> list[Field]:
    """Every field of a message, or NoMessage: all bytes have to be accounted for."""
    found = list(islice(_fields(data), FIELDS_MAX + 1))
    if len(found) > FIELDS_MAX:
        raise NoMessage("too many fields")
    return found


def _fields(data: bytes) -> Iterator[Field]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise NoMessage(f"field number {number}")
        if wire_type == VARINT:
            value, at = _varint(data, at)
            yield Field(number, wire_type, value)
        elif wire_type == BYTES:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise NoMessage("a field ends behind the message")
            yield Field(number, wire_type, data[at : at + size])
            at += size
        elif wire_type in (FIXED32, FIXED64):
            width = 4 if wire_type == FIXED32 else 8
            if at + width > len(data):
                raise NoMessage("a field ends behind the message")
            yield Field(number, wire_type, int.from_bytes(data[at : at + width], "little"))
            at += width
        else:
            raise NoMessage(f"wire type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at == len(data) or shift > 63:
            raise NoMessage("a number does not end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            if value >= 2**64:
                raise NoMessage("a number of more than 64 bits")
            return value, at


def is_message(data: bytes) -> bool:
    """A message of at least one field whose text, where it has some, is text. Short ASCII often
    parses by chance, so plain text is no message."""
    if not data or _is_text(data):
        return False
    try:
        return bool(fields_of(data))
    except NoMessage:
        return False


def is_kubernetes(data: bytes) -> bool:
    if not data.startswith(KUBERNETES):
        return False
    try:
        return any(field.number == 1 for field in fields_of(data[len(KUBERNETES) :]))
    except NoMessage:
        return False


def message_text(data: bytes) -> str:
    return "\n".join(_lines(data, 0, [FIELDS_MAX]))


def kubernetes_text(data: bytes) -> str:
    """The envelope in words, then the object inside: a guess, for its schema is not here."""
    envelope = fields_of(data[len(KUBERNETES) :])
    meta = next((f.value for f in envelope if f.number == 1), b"")
    names = {field.number: field.value for field in _fields_or_none(meta)}
    raw = next((f.value for f in envelope if f.number == 2), b"")
    lines = [f"apiVersion: {_said(names.get(1))}", f"kind: {_said(names.get(2))}"]
    for number, name in ((3, "contentEncoding"), (4, "contentType")):
        value = next((f.value for f in envelope if f.number == number), b"")
        lines += [f"{name}: {_said(value)}"] if value else []
    if isinstance(raw, bytes) and raw:
        named = _metadata(raw)
        lines += [f"{name}: {value}" for name, value in named.items()]
        lines += ["", f"# the object, {len(raw)} bytes: field numbers, read without its schema"]
        # An object kept as JSON, or cut off, is no message: shown as it is.
        is_object = bool(_fields_or_none(raw))
        lines += _lines(raw, 0, [FIELDS_MAX]) if is_object else [_bytes(raw)]
    return "\n".join(lines)


def _fields_or_none(data: int | bytes) -> list[Field]:
    """The fields of a message; none of what is no message."""
    try:
        return fields_of(data) if isinstance(data, bytes) else []
    except NoMessage:
        return []


METADATA = {1: "name", 3: "namespace", 5: "uid", 6: "resourceVersion"}
"""Of metav1.ObjectMeta, which is field 1 of every object."""


def _metadata(raw: bytes) -> dict[str, str]:
    try:
        first = next((f.value for f in fields_of(raw) if f.number == 1), b"")
        if not isinstance(first, bytes):
            return {}
        return {
            METADATA[f.number]: f.value.decode()
            for f in fields_of(first)
            if f.number in METADATA and isinstance(f.value, bytes) and f.value and _is_text(f.value)
        }
    except NoMessage:
        return {}


def _said(value: int | bytes | None) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else "?"


def _lines(data: bytes, depth: int, left: list[int]) -> Iterator[str]:
    """`left`: how many lines more, shared by all levels."""
    pad = "  " * depth
    for field in fields_of(data):
        if left[0] <= 0:
            yield f"{pad}…"
            return
        left[0] -= 1
        value = field.value
        if isinstance(value, int):
            yield f"{pad}{field.number}: {_number(field)}"
        elif value and depth < DEPTH_MAX and is_message(value):
            yield f"{pad}{field.number} {{"
            yield from _lines(value, depth + 1, left)
            yield f"{pad}}}"
        else:
            yield f"{pad}{field.number}: {_bytes(value)}"


def _number(field: Field) -> str:
    """Every digit, and what else the same bits may mean."""
    assert isinstance(field.value, int)
    if field.wire_type == VARINT:
        signed = field.value - 2**64 if field.value >= 2**63 else field.value
        return str(signed)
    is_64 = field.wire_type == FIXED64
    width, code = (8, "<d") if is_64 else (4, "<f")
    [real] = struct.unpack(code, field.value.to_bytes(width, "little"))
    return f"{field.value}  # 0x{field.value:0{width * 2}x}, as a float {real!r}"


def _bytes(value: bytes) -> str:
    head = value[:TEXT_BYTES_MAX]
    cut = f" … {len(value)} bytes" if len(value) > len(head) else ""
    if _is_text(value):
        text = head.decode(errors="ignore")
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return (
            '"' + escaped.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + f'"{cut}'
        )
    return f"0x{head.hex()}{cut}"


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return all(char in "\t\n\r" or (char >= " " and char != "\x7f") for char in text)
