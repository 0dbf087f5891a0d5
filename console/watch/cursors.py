"""Where a watch of several ranges stands: each range has its own next revision. No Django in here.

Ranges change while people look: one is added, one is removed, two grow together. What was seen is
remembered as cursors, so that the new set goes on without a hole and shows nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from console.keys.paging import KeyRange

NUMBER_MAX = 2**63 - 1
CURSORS_MAX = 64


class NoPlace(ValueError):
    """Said by a browser that does not know what it was given."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Every event of `keys` below `revision` has been seen."""

    keys: KeyRange
    revision: int


@dataclass(frozen=True, slots=True)
class Place:
    """What a browser gives back when it reconnects. `since`: the first revision it was shown.
    `counted`: creates, puts and deletes it was told of, which are its own to say."""

    cursors: tuple[Cursor, ...]
    since: int = 0
    counted: tuple[int, int, int] = (0, 0, 0)

    @property
    def events(self) -> int:
        return sum(self.counted)

    @property
    def last(self) -> int:
        """The last revision that any range has reached."""
        return max((one.revision for one in self.cursors), default=1) - 1


def union(ranges: Iterable[KeyRange]) -> tuple[KeyRange, ...]:
    """The same keys as ranges that share none, in order: no event is shown twice."""
    merged: list[KeyRange] = []
    for one in sorted(ranges, key=lambda each: each.start):
        last = merged[-1] if merged else None
        if last is None or not overlap(last, one):
            merged.append(one)
        elif last.has_end and (not one.has_end or one.end > last.end):
            merged[-1] = KeyRange(last.start, one.end)
    return tuple(merged)


def overlap(one: KeyRange, other: KeyRange) -> bool:
    return (not one.has_end or other.start < one.end) and (
        not other.has_end or one.start < other.end
    )


def starts(
    ranges: Sequence[KeyRange], seen: Iterable[Cursor], fresh: Iterable[Cursor]
) -> list[Cursor]:
    """Where each range begins: at the earliest place any part of it was left at, and where no
    part was seen at the page's own. `was_seen` tells what comes again by that."""
    seen, fresh = tuple(seen), tuple(fresh)
    found = []
    for keys in ranges:
        left = [one.revision for one in seen if overlap(one.keys, keys)]
        page = [one.revision for one in fresh if overlap(one.keys, keys)]
        revision = min(left or page, default=0)
        if revision:
            found.append(Cursor(keys, revision))
    return found


def was_seen(key: bytes, revision: int, seen: Iterable[Cursor]) -> bool:
    return any(revision < one.revision and key in one.keys for one in seen)


def pack(place: Place) -> str:
    """For an attribute of the page; a browser hands it back as it is."""
    return json.dumps(
        {
            "at": [[c.keys.start.hex(), c.keys.end.hex(), str(c.revision)] for c in place.cursors],
            "since": str(place.since),
            "counted": [str(number) for number in place.counted],
        },
        separators=(",", ":"),
    )


def unpack(text: object) -> Place:
    """NoPlace when it is nothing that `pack` wrote."""
    try:
        said = json.loads(text)  # type: ignore[arg-type]
        cursors = tuple(
            Cursor(KeyRange(bytes.fromhex(start), bytes.fromhex(end)), _number(revision))
            for start, end, revision in said["at"][:CURSORS_MAX]
        )
        creates, puts, deletes = map(_number, said["counted"])
        return Place(cursors, _number(said["since"]), (creates, puts, deletes))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise NoPlace("not a place in a watch") from None


def _number(text: object) -> int:
    """64-bit numbers travel as strings (console.md §3 trap 3)."""
    if not (isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 20):
        raise ValueError("no number")
    return min(int(text), NUMBER_MAX)
