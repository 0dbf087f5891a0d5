"""Intervals of keys, as permissions and requests name them. No Django, no gRPC in here.

A `Span` is `[start, end)` of byte strings, `end` None for no end. What the wire writes as
`key` and `range_end` becomes a span in `span_of` and nowhere else (spec/auth.md §1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from console.keys.paging import FROM_NUL, after, prefix_end


@dataclass(frozen=True, slots=True)
class Span:
    start: bytes
    end: bytes | None

    @property
    def is_empty(self) -> bool:
        return self.end is not None and self.start >= self.end

    @property
    def is_one_key(self) -> bool:
        return self.end == after(self.start)

    def __contains__(self, key: bytes) -> bool:
        return self.start <= key and (self.end is None or key < self.end)

    def meets(self, other: Span) -> bool:
        """True when some key lies in both."""
        start = max(self.start, other.start)
        return not Span(start, earlier(self.end, other.end)).is_empty

    def covers(self, other: Span) -> bool:
        return self.start <= other.start and earlier(self.end, other.end) == other.end


def span_of(key: bytes, range_end: bytes) -> Span:
    """What `key` and `range_end` mean: one key, everything from a key on, or a range."""
    if not range_end:
        return Span(key, after(key))
    return Span(key, None if range_end == FROM_NUL else range_end)


def wire_of(span: Span) -> tuple[bytes, bytes]:
    """The `key` and `range_end` that mean this span; no server takes an empty key."""
    if span.is_one_key:
        return span.start, b""
    return span.start or FROM_NUL, FROM_NUL if span.end is None else span.end


def earlier(one: bytes | None, other: bytes | None) -> bytes | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def union(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same keys in as few spans as there can be, in order: neighbours become one, as the
    server's own test of a range lets them (spec/auth.md §4)."""
    merged: list[Span] = []
    for span in sorted((one for one in spans if not one.is_empty), key=lambda one: one.start):
        last = merged[-1] if merged else None
        if last is None or (last.end is not None and last.end < span.start):
            merged.append(span)
        elif last.end is not None and (span.end is None or span.end > last.end):
            merged[-1] = Span(last.start, span.end)
    return tuple(merged)


SHAPES = {
    "key": "exactly this key",
    "prefix": "every key with this prefix",
    "from": "every key from this one on",
    "range": "from this key up to another",
    "all": "every key",
}
"""How people think of ranges, in the order they are offered."""


def bounds(shape: str, key: bytes, end: bytes = b"") -> tuple[bytes, bytes]:
    """The `key` and `range_end` of a shape; ValueError says what is missing."""
    if shape not in SHAPES:
        raise ValueError("choose what the range is")
    if shape == "all" or (not key and shape in {"prefix", "from"}):
        return FROM_NUL, FROM_NUL  # an empty key is refused by newer servers (spec/auth.md §4)
    if not key:
        raise ValueError("a key is needed")
    if shape == "key":
        return key, b""
    if shape == "prefix":
        return key, prefix_end(key)
    if shape == "from":
        return key, FROM_NUL
    if not end or end <= key:
        raise ValueError("the end has to lie behind the beginning; it is not part of the range")
    return key, end


def shape_of(key: bytes, range_end: bytes) -> str:
    """The shape somebody most likely meant by these bounds."""
    if not range_end:
        return "key"
    if range_end == FROM_NUL:
        return "all" if key <= FROM_NUL else "from"
    return "prefix" if range_end == prefix_end(key) else "range"


def shape_fields(span: Span) -> dict[str, bytes | str]:
    """What a form's `shape`, `key` and `end` have to hold to mean this span."""
    key, range_end = wire_of(span)
    shape = shape_of(key, range_end)
    fields: dict[str, bytes | str] = {"shape": shape}
    if shape != "all":
        fields["key"] = key
    if shape == "range":
        fields["end"] = range_end
    return fields
