"""Catching up from the store: watchers with a past start, and those whose stream was slow.

History is read in slices of whole revisions, and one slice serves every lagging watcher whose
cursor lies in it. The watcher that waited longest decides where the next slice begins, so nobody
starves. A step is bounded by counted work, because this package knows no time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from kvserver import failpoints
from kvserver.limits import WATCH_CATCH_UP_REVISIONS_MAX
from kvserver.watch.encoded import EncodedEvents, History, deliver
from kvserver.watch.messages import Event
from kvserver.watch.watcher import NUL, Watcher

READ_REVISIONS = 250
"""Revisions asked of the store at a time, at most: a part of a slice, for a millisecond or less."""
READ_REVISIONS_FIRST = 8
"""Asked first, to learn how long the records are."""
READ_BYTES = 512 * 1024
"""What one reading should bring; a single revision may be longer."""
STEP_WORK_MAX = 3000
"""Units per step, each about a microsecond, so a step stays below limits.SLICE_SECONDS_MAX."""
READ_WORK = 2
"""Units for reading and indexing one event."""
SERVE_WORK = 3
"""Units for one watcher, besides one for each event it gets."""
SLICE_BYTES_MAX = 8 * 1024 * 1024
"""A slice ends early when its records are long."""


class Slice:
    """A run of whole revisions, read once for all watchers that need part of it."""

    __slots__ = (
        "_events",
        "_keys",
        "_limit",
        "_next_read",
        "_positions",
        "_revisions",
        "bytes",
        "compact_revision",
        "first",
        "last",
    )

    def __init__(self, first: int, last: int, compact_revision: int) -> None:
        self.first = first
        self.last = last
        self.compact_revision = compact_revision
        self.bytes = 0
        self._limit = WATCH_CATCH_UP_REVISIONS_MAX
        self._next_read = READ_REVISIONS_FIRST
        self._events: list[Event] = []
        self._revisions: list[int] = []
        self._positions: dict[bytes, list[int]] = {}
        self._keys: list[bytes] | None = None

    def read(self, history: History) -> tuple[int, bool]:
        """Read a little more; returns the number of events and whether the slice is whole."""
        begin = self._revisions[-1] + 1 if self._revisions else self.first
        asked = min(self._next_read, self._limit)
        revisions = history.events_between(begin, self.last, asked)
        events_before, bytes_before = len(self._events), self.bytes
        for events in revisions:
            self._add(events)
        self._limit -= len(revisions)
        count = len(self._events) - events_before
        if len(revisions) < asked:
            return count, True  # nothing more up to `last`
        if self._limit == 0 or self.bytes >= SLICE_BYTES_MAX:
            self.last = self._revisions[-1]
            return count, True
        bytes_each = (self.bytes - bytes_before) // len(revisions)
        self._next_read = max(1, min(READ_REVISIONS, READ_BYTES // (bytes_each + 1)))
        return count, self._revisions[-1] == self.last

    def _add(self, events: Sequence[Event]) -> None:
        for event in events:
            self._positions.setdefault(event.key, []).append(len(self._events))
            self._events.append(event)
            self._revisions.append(event.main)
            self.bytes += len(event.kv)

    def encoded(self, history: History) -> EncodedEvents:
        return EncodedEvents(self._events, history)

    def positions(self, key: bytes, end: bytes, from_revision: int) -> list[int]:
        """Where the events of an interval are, in their order, from a revision on."""
        if not end:
            found = self._positions.get(key, [])
        else:
            if self._keys is None:
                self._keys = sorted(self._positions)
            low = bisect_left(self._keys, key)
            high = len(self._keys) if end == NUL else bisect_left(self._keys, end)
            found = sorted(p for k in self._keys[low:high] for p in self._positions[k])
        start = bisect_left(self._revisions, from_revision)
        return found[bisect_left(found, start) :] if start else found


class Parcel:
    """Entries for all watchers of one interval, kind and cursor, and the responses made of them."""

    __slots__ = ("bodies", "entries", "header")

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries
        self.header = b""
        self.bodies: dict[int, bytes] = {}

    def send(self, watcher: Watcher, header: bytes, limit_bytes: int) -> bool:
        """Whether the watcher's sink took it."""
        if header != self.header:
            self.header = header
            self.bodies = {}
        return not deliver((watcher,), self.entries, header, limit_bytes, self.bodies)


class CatchUp:
    """The lagging watchers that may go on, and the slice they share. Owner: the loop."""

    def __init__(
        self,
        history: History,
        fragment_bytes: int,
        served: Callable[[Watcher, int], None],
    ) -> None:
        """`served(watcher, last)` is told that a watcher has everything up to `last`."""
        self.ready: dict[Watcher, None] = {}
        self._history = history
        self._fragment_bytes = fragment_bytes
        self._served = served
        self._slice: Slice | None = None
        self._is_whole = False
        self._encoded: EncodedEvents | None = None
        self._cohort: list[Watcher] = []
        self._parcels: dict[tuple[bytes, bytes, int, int], Parcel | None] = {}

    def forget_slice(self) -> None:
        """Drop what was read: the store is another one now (M4), or nobody needs it."""
        self._slice = None
        self._is_whole = False
        self._encoded = None
        self._cohort = []
        self._parcels = {}

    def read(self, revision: int) -> int:
        """Do one part of the reading, up to `revision` at most; returns the work it took.

        Needs at least one ready watcher, whose cursor is neither compacted nor past `revision`.
        """
        compact_revision = self._history.compact_revision
        if self._slice is None or self._slice.compact_revision != compact_revision:
            # Begin again after a compaction: what is left to read may be gone.
            first = next(iter(self.ready)).next_revision
            self._slice = Slice(first, revision, compact_revision)
        failpoints.hit("beforeSyncWatchers")
        events, self._is_whole = self._slice.read(self._history)
        if self._is_whole:
            first, last = self._slice.first, self._slice.last
            self._encoded = self._slice.encoded(self._history)
            self._cohort = [w for w in self.ready if first <= w.next_revision <= last]
            self._cohort.reverse()
        return READ_WORK * events + SERVE_WORK * (1 + len(self._cohort) // 32)

    def next_served(self) -> Watcher | None:
        """The next watcher the slice at hand can serve, if it is whole and one is left."""
        while self._cohort:
            watcher = self._cohort.pop()
            if watcher in self.ready:
                return watcher
        if self._is_whole:
            self.forget_slice()
        return None

    def serve(self, watcher: Watcher, header: Callable[[], bytes]) -> tuple[int, bool]:
        """Send a watcher its part of the slice; returns the work and whether the sink took it."""
        whole = self._slice
        assert whole is not None and whole.first <= watcher.next_revision <= whole.last
        parcel = self._parcel(watcher, whole)
        work = SERVE_WORK
        if parcel is not None:
            work += len(parcel.entries)
            if not parcel.send(watcher, header(), self._fragment_bytes):
                return work, False
        del self.ready[watcher]
        self._served(watcher, whole.last)
        return work, True

    def _parcel(self, watcher: Watcher, whole: Slice) -> Parcel | None:
        start = watcher.next_revision
        name = (watcher.key, watcher.end, watcher.kind, start)
        if name in self._parcels:
            return self._parcels[name]
        assert self._encoded is not None
        positions = whole.positions(watcher.key, watcher.end, start)
        entries = self._encoded.select(positions, watcher.kind)
        parcel = Parcel(entries) if entries else None
        self._parcels[name] = parcel
        return parcel
