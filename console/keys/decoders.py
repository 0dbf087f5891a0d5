"""Ways to read a value, the most telling first. No Django in here.

A decoder never changes the value: its output is for reading only, and editing starts from the
bytes themselves. Each says whether it fits; the first that does is shown, the others are a click
away (console.md §4).
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import yaml
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import JsonLexer, YamlLexer

from console.keys.protobuf_text import is_kubernetes, is_message, kubernetes_text, message_text

HIGHLIGHT_BYTES_MAX = 256 * 1024
SHOWN_BYTES_MAX = 512 * 1024
HEX_BYTES_MAX = 64 * 1024
YAML_BYTES_MAX = 64 * 1024
"""A longer text is not tried as YAML: the reader is slow, and every view of the key would wait."""

YamlReader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A value made readable. `html` is escaped markup from the highlighter, or None; `text` is
    plain. `shown` of `size` bytes are in it."""

    text: str
    shown: int
    size: int
    html: str | None = None

    @property
    def is_cut(self) -> bool:
        return self.shown < self.size


@dataclass(frozen=True, slots=True)
class Decoder:
    name: str
    label: str
    fits: Callable[[bytes], bool]
    decode: Callable[[bytes], Decoded]


def editable_text(value: bytes) -> str | None:
    """The value as text, if a browser's text area gives back exactly these bytes; else None.

    Form submission rewrites line ends and an HTML parser replaces NUL, so a value with a carriage
    return or a NUL would be saved back changed (console.md §3 trap 4).
    """
    if b"\r" in value or b"\0" in value:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def submitted_bytes(text: str) -> bytes:
    """What a text area meant: browsers send every line end as CRLF."""
    return text.replace("\r\n", "\n").replace("\r", "\n").encode()


def why_not_editable(value: bytes) -> str:
    """For a value `editable_text` refuses: the reason, as a clause."""
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start} is not UTF-8"
    if b"\0" in value:
        return "it contains a NUL byte, which a web form cannot carry"
    return "it contains carriage returns, which a web form would rewrite"


def is_text(value: bytes) -> bool:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return False
    return all(char in "\t\n\r" or char >= " " for char in text)


def is_json(value: bytes) -> bool:
    """An object or a list. A bare number or word is text to everybody who reads it."""
    if value.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True


def visible(text: str) -> str:
    r"""Text whose controls and bidirectional overrides are written `\u202e` instead of obeyed:
    what stands in a value decides nothing about how the page around it reads."""
    return "".join(
        char if char in "\t\n" or unicodedata.category(char) not in HIDDEN else _u(char)
        for char in text
    )


HIDDEN = frozenset({"Cc", "Cf", "Zl", "Zp"})


def _u(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def decode_json(value: bytes) -> Decoded:
    # Numbers keep their digits: parsed as text and written back, never through a float.
    tree = json.loads(value, parse_float=_Digits, parse_int=_Digits, object_pairs_hook=_Pairs)
    try:
        text = visible(_pretty(tree, ""))
    except RecursionError:
        return decode_text(value)
    if len(text) > HIGHLIGHT_BYTES_MAX:
        return _cut_text(text, len(value))
    html = highlight(text, JsonLexer(), HtmlFormatter(nowrap=True))
    return Decoded(text, len(value), len(value), html)


class _Digits(str):
    """A number as it was written."""


class _Pairs(list[tuple[str, object]]):
    """An object with its members as they were written, repeated names included."""


def _pretty(node: object, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(node, _Pairs):
        rows = [
            f"{deeper}{json.dumps(name, ensure_ascii=False)}: {_pretty(item, deeper)}"
            for name, item in node
        ]
        if not rows:
            return "{}"
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(node, list) and node:
        rows = [deeper + _pretty(item, deeper) for item in node]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    if isinstance(node, _Digits):
        return str(node)
    return json.dumps(node, ensure_ascii=False)


def decode_text(value: bytes) -> Decoded:
    return _cut_text(value.decode(errors="backslashreplace"), len(value))


def _cut_text(text: str, size: int) -> Decoded:
    if len(text) <= SHOWN_BYTES_MAX:
        return Decoded(visible(text), size, size)
    return Decoded(visible(text[:SHOWN_BYTES_MAX]), min(SHOWN_BYTES_MAX, size - 1), size)


def decode_hex(value: bytes) -> Decoded:
    head = value[:HEX_BYTES_MAX]
    lines = [_hex_line(at, head[at : at + 16]) for at in range(0, len(head), 16)]
    return Decoded("\n".join(lines), len(head), len(value))


def _hex_line(at: int, row: bytes) -> str:
    left, right = row[:8].hex(" "), row[8:].hex(" ")
    printable = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in row)
    return f"{at:08x}  {left:<23}  {right:<23}  {printable}"


def is_yaml(value: bytes) -> bool:
    """A mapping or a list over several lines. One line is as good as text, and JSON is JSON."""
    if len(value) > YAML_BYTES_MAX or b"\n" not in value.strip() or not is_text(value):
        return False
    if is_json(value):
        return False
    try:
        return all(
            isinstance(tree, yaml.MappingNode | yaml.SequenceNode)
            for tree in yaml.compose_all(value.decode(), Loader=YamlReader)
        )
    except (yaml.YAMLError, RecursionError):
        return False


def decode_yaml(value: bytes) -> Decoded:
    """The text as it is, coloured: writing it anew would lose comments and order."""
    text = visible(value.decode())
    html = highlight(text, YamlLexer(), HtmlFormatter(nowrap=True))
    return Decoded(text, len(value), len(value), html)


def decode_protobuf(value: bytes) -> Decoded:
    return _cut_text(message_text(value), len(value))


def decode_kubernetes(value: bytes) -> Decoded:
    return _cut_text(kubernetes_text(value), len(value))


DECODERS = (
    Decoder("kubernetes", "Kubernetes", is_kubernetes, decode_kubernetes),
    Decoder("json", "JSON", is_json, decode_json),
    Decoder("yaml", "YAML", is_yaml, decode_yaml),
    Decoder("text", "Text", is_text, decode_text),
    Decoder("protobuf", "Protobuf guess", is_message, decode_protobuf),
    Decoder("hex", "Hex", lambda value: True, decode_hex),
)


def fitting(value: bytes) -> list[Decoder]:
    """The decoders that fit, the winner first. Hex always does."""
    return [decoder for decoder in DECODERS if decoder.fits(value)]
