"""What a watch looks at, as its URL says: a prefix, one key or an exact range, and a filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from console.keys.addresses import BadAddress, bytes_of, number_of
from console.keys.byte_text import show
from console.keys.paging import FROM_NUL, KeyRange, one_key, prefix_range

KINDS = ("all", "puts", "deletes")


@dataclass(frozen=True, slots=True)
class Scope:
    keys: KeyRange
    kind: str
    query: dict[str, str]
    """The parameters that mean it, for every address about the same watch."""

    @property
    def has_puts(self) -> bool:
        return self.kind != "deletes"

    @property
    def has_deletes(self) -> bool:
        return self.kind != "puts"


def scope_of(query: Mapping[str, str]) -> Scope:
    """BadAddress says what is wrong with it."""
    kind = query.get("show", "all")
    if kind not in KINDS:
        raise BadAddress(f"{kind[:20]!r} is no kind of events")
    kept = {} if kind == "all" else {"show": kind}
    key, end = bytes_of(query.get("key", "")), bytes_of(query.get("end", ""))
    if not key and not end:
        prefix = bytes_of(query.get("prefix", ""))
        return Scope(prefix_range(prefix), kind, kept | _named(prefix=prefix))
    if not end:
        return Scope(one_key(key), kind, kept | _named(key=key))
    keys = KeyRange(key or FROM_NUL, end)
    if keys.has_end and keys.start >= keys.end:
        raise BadAddress("the range is empty: its end is not behind its first key")
    return Scope(keys, kind, kept | _named(key=key, end=end))


def revision_of(text: object) -> int:
    """A revision a page or a browser names; 0 for none."""
    return number_of(text) if isinstance(text, str) else 0


def _named(**parts: bytes) -> dict[str, str]:
    return {name: show(part) for name, part in parts.items() if part}
