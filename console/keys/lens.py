"""How somebody looks at keys: kept in every address, so that a link shows what was seen.

`sep` cuts keys into folders, `rev` is the revision everything is shown as of, `read` whether one
member answers from its own state. No Django in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from console.keys.byte_text import parse, show

SEPARATOR = b"/"
FLAT = "none"
INT64_MAX = 2**63 - 1


class BadAddress(ValueError):
    """A URL or a field that means no bytes or no revision; the text says why."""


@dataclass(frozen=True, slots=True)
class Lens:
    """`separator` empty: no folders. `revision` 0: the newest."""

    separator: bytes = SEPARATOR
    revision: int = 0
    is_serializable: bool = False

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Lens:
        """Raises BadAddress."""
        text = query.get("sep", "")
        separator = b"" if text == FLAT else bytes_of(text) or SEPARATOR
        return cls(separator, number_of(query.get("rev", "")), query.get("read") == "serializable")

    @property
    def separator_text(self) -> str:
        return show(self.separator) or FLAT

    @property
    def is_flat(self) -> bool:
        return not self.separator

    @property
    def consistency(self) -> str:
        """As etcdctl's flag has it; nothing for what is usual."""
        return "s" if self.is_serializable else ""

    def at(self, revision: int) -> Lens:
        return replace(self, revision=revision)

    def params(self) -> dict[str, object]:
        """What an address carries; what is usual is left out."""
        found: dict[str, object] = {}
        if self.separator != SEPARATOR:
            found["sep"] = self.separator_text
        if self.revision:
            found["rev"] = self.revision
        if self.is_serializable:
            found["read"] = "serializable"
        return found


PLAIN = Lens()
"""The newest keys in folders by slash, read linearizably."""


def bytes_of(text: str) -> bytes:
    try:
        return parse(text)
    except ValueError as error:
        raise BadAddress(str(error)) from None


def number_of(text: str) -> int:
    """A revision, count or id from a URL: nothing is 0."""
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()) or int(text) > INT64_MAX:
        raise BadAddress(f"{text[:30]!r} is not a revision")
    return int(text)
