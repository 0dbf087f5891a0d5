"""Messages from JSON (spec/wire-api.md §4.1).

Our own because the library's reader is too forgiving with base64: a key must not lose the
characters that it cannot have.
"""

from __future__ import annotations

import base64
import json
import re
from functools import cache
from typing import Any, NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from kvserver.errors import Code, RequestError

_INTEGERS = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]*|[A-Za-z0-9_-]*)={0,2}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}")


class BadJson(RequestError):
    """The body is no JSON, or not that of the message."""

    code = Code.INVALID_ARGUMENT


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def decode(kind: type[Message], body: bytes) -> Message:
    """The first JSON value of the body as a message; an empty body is an empty message. What
    follows the value is not looked at. Raises `BadJson`."""
    message = kind()
    try:
        text = body.decode().lstrip(" \t\r\n")
        if text:
            value, _ = _decoder.raw_decode(text)
            if value is not None:
                _fill(message, value)
    except RecursionError:
        raise BadJson("the JSON is nested too deeply") from None
    except UnicodeError:
        raise BadJson("the JSON is not UTF-8") from None
    except ValueError as error:
        raise BadJson(str(error)) from None
    return message


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """By the name of the definition and by its lowerCamelCase form."""
    fields = {field.json_name: field for field in descriptor.fields}
    return fields | {field.name: field for field in descriptor.fields}


def _fill(message: Any, value: Any) -> None:
    descriptor = message.DESCRIPTOR
    if not isinstance(value, dict):
        raise ValueError(f"{descriptor.name} wants an object, not {_kind(value)}")
    fields = _fields(descriptor)
    for name, inner in value.items():
        field = fields.get(name)
        if field is None or inner is None:  # unknown, or unset
            continue
        union = field.containing_oneof
        if union is not None and message.WhichOneof(union.name) is not None:
            raise ValueError(f"{name}: {union.name} is set already")
        _set(message, field, inner)


def _set(message: Any, field: FieldDescriptor, value: Any) -> None:
    is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
    if field.is_repeated:
        if not isinstance(value, list):
            raise ValueError(f"{field.name} wants a list, not {_kind(value)}")
        target = getattr(message, field.name)
        for item in value:
            if is_message:
                _fill(target.add(), item)
            else:
                target.append(_scalar(field, item))
    elif is_message:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _fill(inner, value)
    else:
        setattr(message, field.name, _scalar(field, value))


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES and isinstance(value, str):
        return _bytes(field.name, value)
    if field.cpp_type in _INTEGERS:
        return _integer(field.name, value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL and isinstance(value, bool):
        return value
    if field.type == FieldDescriptor.TYPE_STRING and isinstance(value, str):
        return value
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return _enum(field, value)
    wanted = "base64" if field.type == FieldDescriptor.TYPE_BYTES else "another type"
    raise ValueError(f"{field.name} wants {wanted}, not {_kind(value)}")


def _bytes(name: str, text: str) -> bytes:
    """Standard or URL-safe; padded, or neither padded nor a multiple of four long."""
    is_whole = len(text) % 4 == 0 if "=" in text else len(text) % 4 != 1
    if not is_whole or not _BASE64.fullmatch(text):
        raise ValueError(f"{name} is not base64")
    altchars = b"-_" if "-" in text or "_" in text else None
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{name} wants an integer, not {_kind(value)}")


def _enum(field: FieldDescriptor, value: Any) -> int:
    if isinstance(value, str):
        enum = field.enum_type
        assert enum is not None
        known = enum.values_by_name.get(value)
        if known is None:
            raise ValueError(f"{enum.full_name} has no value {value!r}")
        return int(known.number)
    return _integer(field.name, value)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else kinds.get(type(value), "a number")
