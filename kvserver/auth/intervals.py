"""A set of keys as disjoint intervals, in the range notation of requests (spec/auth.md §1).

Intervals that touch or overlap are one: a requested range is allowed when the union covers it,
whatever grants the union came from (§4).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

OPEN_END = b"\x00"
"""As a range end: all keys from the first on. No other range can end there."""


class Intervals:
    """Immutable. `_ends[i]` belongs to `_firsts[i]`; an interval with an open end is apart."""

    __slots__ = ("_ends", "_firsts", "_open_from")

    def __init__(self, ranges: Iterable[tuple[bytes, bytes]]) -> None:
        """Of (key, range_end) pairs; inverted ones hold nothing."""
        self._firsts: list[bytes] = []
        self._ends: list[bytes] = []
        self._open_from: bytes | None = None
        for first, end in sorted(ranges):
            if end == OPEN_END:
                self._add_open(first)
            else:
                self._add(first, end or first + b"\x00")

    def _add_open(self, first: bytes) -> None:
        if self._ends and self._ends[-1] >= first:
            first = self._firsts.pop()
            self._ends.pop()
        if self._open_from is None:
            self._open_from = first

    def _add(self, first: bytes, end: bytes) -> None:
        """Firsts come in ascending order."""
        if end <= first or self._open_from is not None:
            return
        if self._ends and self._ends[-1] >= first:
            self._ends[-1] = max(self._ends[-1], end)
        else:
            self._firsts.append(first)
            self._ends.append(end)

    def covers(self, key: bytes, range_end: bytes) -> bool:
        """Whether the set has every key of [key, range_end). An inverted range names no key, but
        its first one must be there: as a rule etcd has it so too."""
        if self._open_from is not None and key >= self._open_from:
            return True
        if range_end == OPEN_END:
            return False
        at = bisect_right(self._firsts, key) - 1
        return at >= 0 and key < self._ends[at] and range_end <= self._ends[at]


def is_valid_grant(key: bytes, range_end: bytes) -> bool:
    """Whether a permission may be granted on this range (spec/auth.md §4, newest form)."""
    if not key:
        return False
    return not range_end or range_end == OPEN_END or key < range_end
