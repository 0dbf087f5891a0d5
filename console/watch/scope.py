"""What a watch looks at, as its URL says: ranges, filters, and where to begin.

`prefix`, `key` and `end` repeat: each prefix is a range, and the n-th `key` and the n-th `end`
are one, whose end may be missing (one key) or its first key (from the first). A range that cannot
be read is named and left out: the others are watched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from django.http import QueryDict

from console.keys.addresses import BadAddress, bytes_of, number_of
from console.keys.byte_text import show
from console.keys.paging import FROM_NUL, KeyRange, one_key, prefix_range
from console.watch.cursors import union

KINDS = {"all": "puts and deletes", "puts": "puts only", "deletes": "deletes only"}
RANGES_MAX = 8
"""Each range is a stream to the cluster and a thread of the console."""

EVERYTHING = prefix_range(b"")
Pairs = list[tuple[str, str]]
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Scope:
    """`asked`: the ranges as they were asked for; none is the whole keyspace. `start`: the first
    revision wanted, 0 for now. `mistakes`: what was wrong with what was left out."""

    asked: tuple[KeyRange, ...] = ()
    kind: str = "all"
    text: bytes = b""
    start: int = 0
    mistakes: tuple[str, ...] = ()

    @property
    def ranges(self) -> tuple[KeyRange, ...]:
        """The same keys without overlap."""
        return union(self.asked or (EVERYTHING,))

    @property
    def has_puts(self) -> bool:
        return self.kind != "deletes"

    @property
    def has_deletes(self) -> bool:
        return self.kind != "puts"

    def wants_key(self, key: bytes) -> bool:
        """Letters of ASCII match in either case."""
        return not self.text or self.text.lower() in key.lower()

    def query(self, *, without: KeyRange | None = None, start: bool = True) -> Pairs:
        """The parameters that mean it, for every address about the same watch."""
        pairs = [pair for keys in self.asked if keys != without for pair in pairs_of(keys)]
        if self.kind != "all":
            pairs.append(("show", self.kind))
        if self.text:
            pairs.append(("text", show(self.text)))
        if start and self.start:
            pairs.append(("rev", str(self.start)))
        return pairs


def pairs_of(keys: KeyRange) -> Pairs:
    if keys == prefix_range(keys.start):
        return [("prefix", show(keys.start))]
    if keys == one_key(keys.start):
        return [("key", show(keys.start)), ("end", "")]
    return [("key", show(keys.start)), ("end", show(keys.end))]


def label(keys: KeyRange) -> str:
    """A range in as few words as name it."""
    if keys == EVERYTHING:
        return "every key"
    if keys == prefix_range(keys.start):
        return f"{show(keys.start)}…"
    if keys == one_key(keys.start):
        return show(keys.start)
    return f"[{show(keys.start)}, {show(keys.end) if keys.has_end else '∞'})"


def scope_of(query: QueryDict) -> Scope:
    reading = _Reading()
    asked = [
        reading(lambda text=text: prefix_range(bytes_of(text)), None)
        for text in query.getlist("prefix")
        if text
    ]
    asked += [
        reading(lambda key=key, end=end: _exact(bytes_of(key), bytes_of(end)), None)
        for key, end in zip_longest(query.getlist("key"), query.getlist("end"), fillvalue="")
        if key or end
    ]
    ranges = tuple(dict.fromkeys(keys for keys in asked if keys is not None))
    if len(ranges) > RANGES_MAX:
        reading.mistakes.append(f"more than {RANGES_MAX} ranges cannot be watched at once")
    return Scope(
        ranges[:RANGES_MAX],
        reading(lambda: _kind(query.get("show", "all")), "all"),
        reading(lambda: bytes_of(query.get("text", "")), b""),
        reading(lambda: number_of(query.get("rev", "").replace(" ", "")), 0),
        tuple(reading.mistakes),
    )


class _Reading:
    """Reads parameter after parameter and remembers what was wrong."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def __call__(self, read: Callable[[], Read], otherwise: Read) -> Read:
        try:
            return read()
        except BadAddress as error:
            self.mistakes.append(str(error))
            return otherwise


def _kind(text: str) -> str:
    if text not in KINDS:
        raise BadAddress(f"{text[:20]!r} is no kind of events")
    return text


def _exact(key: bytes, end: bytes) -> KeyRange:
    if not end:
        return one_key(key)
    keys = KeyRange(key or FROM_NUL, end)
    if keys.has_end and keys.start >= keys.end:
        raise BadAddress("a range is empty: its end is not behind its first key")
    return keys
