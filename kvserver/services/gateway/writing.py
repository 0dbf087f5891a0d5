"""Messages to JSON (spec/wire-api.md §4.1): names as defined, defaults left out, bytes in base64,
64-bit numbers as text.

Our own because the library's writer takes ten times as long and cannot pause: an answer of a
hundred thousand keys must not hold the loop (design D6).
"""

from __future__ import annotations

import asyncio
import json
from binascii import b2a_base64
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

MESSAGES_PER_PAUSE = 500
"""Entries of lists written before the loop goes on; a key takes a few microseconds."""

_LONG = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})
_SHORT = frozenset({FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32})
Writer = Callable[[Any], str]


def encode(message: Message) -> bytes:
    """One JSON object without a newline."""
    return "".join(_pieces(message)).encode()


async def encode_in_slices(message: Message) -> bytes:
    """The same, with pauses."""
    pieces = []
    for piece in _pieces(message):
        pieces.append(piece)
        if not len(pieces) % MESSAGES_PER_PAUSE:
            await asyncio.sleep(0)
    return "".join(pieces).encode()


def _pieces(message: Message) -> Iterator[str]:
    """The object in pieces, each of one entry of a list at most."""
    between = "{"
    for field, value in message.ListFields():
        yield f'{between}"{field.name}":'
        between = ","
        if not _has_lists(field):
            yield _value(field, value)
        elif field.is_repeated:
            yield from _list(value)
        else:
            yield from _pieces(value)
    yield "{}" if between == "{" else "}"


def _list(messages: Any) -> Iterator[str]:
    between = "["
    for message in messages:
        if _is_flat(message.DESCRIPTOR):
            yield between + _object(message)
        else:
            yield between
            yield from _pieces(message)
        between = ","
    yield "]"


def _object(message: Message) -> str:
    """Hot: once per key of an answer."""
    fields = [f'"{field.name}":{_value(field, value)}' for field, value in message.ListFields()]
    return "{" + ",".join(fields) + "}"


def _value(field: FieldDescriptor, value: Any) -> str:
    write = _writer(field)
    if field.is_repeated:
        return "[" + ",".join([write(item) for item in value]) + "]"
    return write(value)


@cache
def _writer(field: FieldDescriptor) -> Writer:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return _object
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: f'"{b2a_base64(value, newline=False).decode()}"'
    if field.cpp_type in _LONG:
        return lambda value: f'"{value}"'
    if field.cpp_type in _SHORT:
        return str
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return lambda value: "true" if value else "false"
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return _enum_writer(field)
    assert field.type == FieldDescriptor.TYPE_STRING, f"no message has a field like {field.name}"
    return lambda value: json.dumps(value, ensure_ascii=False)


def _enum_writer(field: FieldDescriptor) -> Writer:
    enum = field.enum_type
    assert enum is not None
    names = {number: f'"{value.name}"' for number, value in enum.values_by_number.items()}
    return lambda value: names.get(value, str(value))


@cache
def _has_lists(field: FieldDescriptor) -> bool:
    """Whether the field may hold so much that it is written piece by piece."""
    inner = field.message_type
    return inner is not None and (field.is_repeated or not _is_flat(inner))


@cache
def _is_flat(descriptor: Descriptor) -> bool:
    """Whether there is no list of messages anywhere inside."""
    return _flat(descriptor, frozenset())


def _flat(descriptor: Descriptor, seen: frozenset[str]) -> bool:
    if descriptor.full_name in seen:
        return True
    seen |= {descriptor.full_name}
    return not any(
        field.message_type is not None
        and (field.is_repeated or not _flat(field.message_type, seen))
        for field in descriptor.fields
    )
