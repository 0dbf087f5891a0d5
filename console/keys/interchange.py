"""Keys as files: NDJSON and YAML, one entry a key, read and written entry by entry.

Text stands as text; bytes that are not UTF-8 stand in base64, under `key_base64` and
`value_base64`. A lease is noted by its id in hexadecimal: an id means something in its own cluster
only, so an import attaches it only when asked. No Django in here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import yaml

from console.gateway.records import Key

LINE_BYTES_MAX = 16 * 1024 * 1024
"""The largest value a server takes by default, each byte of it escaped, fits five times."""

INT64_MAX = 2**63 - 1
FORMATS = ("ndjson", "yaml")
FIELDS = {"key", "key_base64", "value", "value_base64", "lease"}
NOTED = {"create_revision", "mod_revision", "version"}
"""Written for whoever reads the file; an import gives keys revisions of their own."""


class BadFile(ValueError):
    """A file that is no export; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a file; `line` is where it begins."""

    key: bytes
    value: bytes
    lease: int
    line: int


def written(key: Key, kind: str) -> bytes:
    """One entry, as the file has it."""
    return _written(_fields(key), kind)


def cut_short(why: str, kind: str) -> bytes:
    """What ends a file whose reading failed: nobody shall take it for whole."""
    return _written({"error": f"this export is not complete: {why}"}, kind)


def _written(fields: dict[str, Any], kind: str) -> bytes:
    if kind == "ndjson":
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    text: str = yaml.dump(
        [fields], Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=2**20
    )
    return text.encode()


class _Dumper(yaml.SafeDumper):
    """Lines of text stand as lines, and what YAML would take for a line's end is escaped."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if UNSAFE.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


UNSAFE = re.compile(
    "[^\n\t -~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029\ufeff]"
)
_Dumper.add_representer(str, _quoted)


def _fields(key: Key) -> dict[str, Any]:
    fields: dict[str, Any] = _text("key", key.key) | _text("value", key.value or b"")
    if key.lease:
        fields["lease"] = key.lease_hex
    numbers = {name: getattr(key, name) for name in ("create_revision", "mod_revision", "version")}
    # 64-bit numbers are strings (console.md §3 trap 3).
    return fields | {name: str(number) for name, number in numbers.items()}


def _text(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def read(stream: IO[bytes], kind: str) -> Iterator[Entry]:
    """Entry after entry, never more than one in memory. Raises BadFile."""
    fields = _ndjson(stream) if kind == "ndjson" else _yaml(stream)
    for line, found in fields:
        yield _entry(found, line)


def _ndjson(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
    number = 0
    while text := stream.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(text) > LINE_BYTES_MAX:
            raise BadFile(f"line {number}: longer than {LINE_BYTES_MAX} bytes")
        if text.strip():
            try:
                yield number, json.loads(text)
            except (ValueError, RecursionError) as error:
                raise BadFile(f"line {number}: no JSON: {error}") from None


def _yaml(stream: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """A list of plain mappings, event by event: a document is never built as a whole."""
    try:
        yield from _mappings(yaml.parse(stream, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        said = getattr(error, "problem", None) or str(error)
        raise BadFile(f"{where}no YAML: {said}") from None
    except UnicodeDecodeError:
        raise BadFile("the file is not UTF-8") from None


def _mappings(events: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    depth, found, name, line = 0, {}, None, 0
    for event in events:
        at = event.start_mark.line + 1
        if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            depth += 1
            if isinstance(event, yaml.MappingStartEvent) is (depth == 1) or depth > 2:
                raise BadFile(f"line {at}: a list of entries is expected, each of plain fields")
            if depth == 2:
                found, name, line = {}, None, at
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            if depth == 2:
                yield line, found
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            raise BadFile(f"line {at}: aliases are not read")
        elif isinstance(event, yaml.ScalarEvent):
            if depth != 2:
                raise BadFile(f"line {at}: a list of entries is expected")
            if name is None:
                name = event.value
                continue
            if event.implicit[0] and event.value in {"", "~", "null"}:
                raise BadFile(f"line {at}: {name} is nothing; empty text is written ''")
            found[name] = event.value
            name = None


def _entry(fields: Any, line: int) -> Entry:
    if not isinstance(fields, dict):
        raise BadFile(f"line {line}: an entry is a mapping of fields")
    if "error" in fields:
        raise BadFile(f"line {line}: {fields['error']}")
    unknown = fields.keys() - FIELDS - NOTED
    if unknown:
        raise BadFile(f"line {line}: {min(unknown)!r} is no field of an entry")
    key, value = (_bytes(fields, name, line) for name in ("key", "value"))
    if not key:
        raise BadFile(f"line {line}: a key has at least one byte")
    return Entry(key, value, _lease(fields.get("lease", ""), line), line)


def _bytes(fields: dict[str, Any], name: str, line: int) -> bytes:
    given = [each for each in (name, f"{name}_base64") if each in fields]
    if len(given) != 1:
        raise BadFile(f"line {line}: an entry has either {name} or {name}_base64")
    text = fields[given[0]]
    if not isinstance(text, str):
        raise BadFile(f"line {line}: {given[0]} is text, in quotes")
    try:
        return text.encode() if given[0] == name else base64.b64decode(text, validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise BadFile(f"line {line}: {given[0]} is not what it says it is") from None


def _lease(text: Any, line: int) -> int:
    try:
        lease = int(str(text), 16) if text else 0
    except ValueError:
        lease = -1
    if not 0 <= lease <= INT64_MAX:
        raise BadFile(f"line {line}: a lease is an id in hexadecimal")
    return lease
