r"""Bytes as text that means exactly those bytes, and back.

Keys and values are bytes; screens, URLs and form fields carry text. One writing serves all
three: UTF-8 text stands for itself, a backslash is doubled, and every byte that would be
invisible, misleading or not UTF-8 is written `\xNN`. So `parse(show(data)) == data` for all
data, what is seen is what is meant, and what is seen can be typed.
"""

import re
import unicodedata

# Letters and digits of every script, marks, punctuation, symbols: things with a shape of their
# own. Controls, bidirectional overrides, zero-width, private and unassigned ones have none.
VISIBLE = frozenset("LMNPS")
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(\\))|(\\)")


def show(data: bytes) -> str:
    """The one writing of these bytes."""
    text = "".join(
        _escaped(run[0]) if isinstance(run, tuple) else "".join(map(_shown, run))
        for run in _runs(data)
    )
    # Blanks at an end would be lost on screen and in a search box.
    if text.startswith(" "):
        text = r"\x20" + text[1:]
    if text.endswith(" "):
        text = text[:-1] + r"\x20"
    return text


def parse(text: str) -> bytes:
    """The bytes a writing means. ValueError on a backslash that starts no escape."""
    parts: list[bytes] = []
    end = 0
    for found in ESCAPE.finditer(text):
        parts.append(text[end : found.start()].encode())
        end = found.end()
        if found[3]:
            raise ValueError(r"a backslash is written \\, a byte \xNN")
        parts.append(bytes([int(found[1], 16)]) if found[1] else b"\\")
    parts.append(text[end:].encode())
    return b"".join(parts)


def is_plain(data: bytes) -> bool:
    """True when the bytes are UTF-8 text and shown as they are."""
    try:
        return show(data) == data.decode()
    except UnicodeDecodeError:
        return False


def _runs(data: bytes) -> list[str | tuple[bytes]]:
    """Maximal decodable stretches as str, what lies between them as a tuple of bytes."""
    runs: list[str | tuple[bytes]] = []
    rest = data
    while rest:
        try:
            runs.append(rest.decode())
            break
        except UnicodeDecodeError as error:
            if error.start:
                runs.append(rest[: error.start].decode())
            runs.append((rest[error.start : error.end],))
            rest = rest[error.end :]
    return runs


def _shown(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char == " " or unicodedata.category(char)[0] in VISIBLE:
        return char
    return _escaped(char.encode())


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)
