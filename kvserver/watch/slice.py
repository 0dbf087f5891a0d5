"""A run of history in memory, read once for all watchers that need part of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from kvserver.limits import WATCH_CATCH_UP_REVISIONS_MAX
from kvserver.watch.encoded import EncodedEvents, History
from kvserver.watch.messages import Event
from kvserver.watch.watcher import NUL

SLICE_REVISIONS_MAX = 10_000
SLICE_BYTES_MAX = 8 * 1024 * 1024
"""A slice ends early when its records are long."""
READ_REVISIONS_MAX = 250
"""Revisions asked of the store at a time: a part of a slice, for a millisecond or less."""
READ_REVISIONS_FIRST = 8
"""Asked first, to learn how long the records are."""
READ_BYTES = 512 * 1024
"""What one reading should bring; a single revision may be longer."""


class Slice:
    """Whole revisions from `first` to `last`, in order. Grows by `read` until `is_whole`."""

    def __init__(self, history: History, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self.compact_revision = history.compact_revision
        """As it was at the beginning: after another compaction the rest cannot be read."""
        self.is_whole = False
        self._history = history
        self._bytes = 0
        self._revisions_left = SLICE_REVISIONS_MAX
        self._next_read = READ_REVISIONS_FIRST
        self._events: list[Event] = []
        self._revisions: list[int] = []
        self._positions: dict[bytes, list[int]] = {}
        self._keys: list[bytes] = []
        self._encoded = EncodedEvents(self._events, history)
        self._found: dict[tuple[bytes, bytes], list[int]] = {}

    def read(self) -> int:
        """Read a little more; returns the number of events it was."""
        begin = self._revisions[-1] + 1 if self._revisions else self.first
        asked = min(self._next_read, self._revisions_left)
        revisions = self._history.events_between(begin, self.last, asked)
        events_before, bytes_before = len(self._events), self._bytes
        for events in revisions:
            self._add(events)
        self._revisions_left -= len(revisions)
        if len(revisions) < asked or self._revisions[-1] == self.last:
            self._complete(self.last)  # nothing more up to `last`
        elif not self._revisions_left or self._bytes >= SLICE_BYTES_MAX:
            self._complete(self._revisions[-1])
        else:
            bytes_each = (self._bytes - bytes_before) // len(revisions)
            self._next_read = max(1, min(READ_REVISIONS_MAX, READ_BYTES // (bytes_each + 1)))
        return len(self._events) - events_before

    def _add(self, events: Sequence[Event]) -> None:
        for event in events:
            self._positions.setdefault(event.key, []).append(len(self._events))
            self._events.append(event)
            self._revisions.append(event.main)
            self._bytes += len(event.kv)

    def _complete(self, last: int) -> None:
        self.last = last
        self.is_whole = True
        self._keys = sorted(self._positions)

    def holds(self, revision: int) -> bool:
        return self.is_whole and self.first <= revision <= self.last

    def batch(
        self, key: bytes, end: bytes, kind: int, from_revision: int
    ) -> tuple[list[bytes], int]:
        """Entries of the next response for an interval, and the first revision it leaves out.

        A response holds at most 1000 revisions of the interval and never part of one (V5).
        """
        found = self._positions_of(key, end)
        revisions = self._revisions
        begin = bisect_left(found, bisect_left(revisions, from_revision))
        stop, next_revision = len(found), self.last + 1
        if stop - begin > WATCH_CATCH_UP_REVISIONS_MAX:
            count = previous = 0
            for index in range(begin, stop):
                main = revisions[found[index]]
                if main != previous:
                    previous = main
                    count += 1
                    if count > WATCH_CATCH_UP_REVISIONS_MAX:
                        stop, next_revision = index, main
                        break
        return self._encoded.select(found[begin:stop], kind), next_revision

    def _positions_of(self, key: bytes, end: bytes) -> list[int]:
        """Where the events of an interval are, in their order."""
        if not end:
            return self._positions.get(key, [])
        found = self._found.get((key, end))
        if found is None:
            low = bisect_left(self._keys, key)
            high = len(self._keys) if end == NUL else bisect_left(self._keys, end)
            found = sorted(p for k in self._keys[low:high] for p in self._positions[k])
            self._found[key, end] = found
        return found
