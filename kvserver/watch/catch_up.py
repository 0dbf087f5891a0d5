"""Catching up from the store: watchers with a past start, and those whose stream was slow.

One slice of history serves every lagging watcher whose cursor lies in it. The watcher that waited
longest decides where the next slice begins, so nobody starves. A step is bounded by counted work,
because this package knows no time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kvserver import failpoints
from kvserver.watch.encoded import History, deliver
from kvserver.watch.slice import Slice
from kvserver.watch.watcher import Watcher

STEP_WORK_MAX = 3000
"""Units per step, each about a microsecond, so a step stays below limits.SLICE_SECONDS_MAX."""
READ_WORK = 4
"""Units for one event: the store makes it, the slice files it."""
SERVE_WORK = 3
"""Units for one watcher, besides one for each event it gets."""
BODIES_MAX = 16
"""Responses kept for watchers of the same id: enough for many streams of one watcher each."""


class Parcel:
    """A response for all watchers of one interval, kind and cursor."""

    __slots__ = ("bodies", "entries", "header", "next_revision")

    def __init__(self, entries: list[bytes], next_revision: int) -> None:
        self.entries = entries
        self.next_revision = next_revision
        self.header = b""
        self.bodies: dict[int, bytes] = {}

    def send(self, watcher: Watcher, header: bytes, limit_bytes: int) -> bool:
        """Whether the watcher's sink took it."""
        if header != self.header or len(self.bodies) >= BODIES_MAX:
            self.header = header
            self.bodies = {}
        return not deliver((watcher,), self.entries, header, limit_bytes, self.bodies)


class CatchUp:
    """The lagging watchers that may go on, and the slice they share. Owner: the loop."""

    def __init__(
        self, history: History, fragment_bytes: int, served: Callable[[Watcher, int], None]
    ) -> None:
        """`served(watcher, next_revision)` is told how far a watcher has got."""
        self.ready: dict[Watcher, None] = {}
        """A dict as an ordered set: the longest waiting first."""
        self._history = history
        self._fragment_bytes = fragment_bytes
        self._served = served
        self._slice: Slice | None = None
        self._cohort: deque[Watcher] = deque()
        self._parcels: dict[tuple[bytes, bytes, int, int], Parcel] = {}

    def forget_slice(self) -> None:
        """Drop what was read: the store is another one now (M4), or nobody is lagging."""
        self._slice = None
        self._cohort.clear()
        self._parcels.clear()

    def read(self, revision: int) -> int:
        """Do one part of the reading, up to `revision` at most; returns the work it took.

        Needs at least one ready watcher, whose cursor is neither compacted nor past `revision`.
        """
        head = next(iter(self.ready)).next_revision
        current = self._slice
        if current is None or current.compact_revision != self._history.compact_revision:
            current = None  # after a compaction what is left to read may be gone
        elif current.is_whole and not current.holds(head):
            current = None
        if current is None:
            current = self._slice = Slice(self._history, head, revision)
        count = 0
        if not current.is_whole:
            failpoints.hit("beforeSyncWatchers")
            count = current.read()
        if current.is_whole:
            self._cohort.extend(w for w in self.ready if current.holds(w.next_revision))
        return READ_WORK * count + SERVE_WORK * (1 + len(self._cohort) // 32)

    def next_served(self) -> Watcher | None:
        """The next watcher the slice at hand can serve, if it is whole and one is left."""
        while self._cohort:
            watcher = self._cohort.popleft()
            if watcher in self.ready:
                return watcher
        self._parcels.clear()
        return None

    def serve(self, watcher: Watcher, header: Callable[[], bytes]) -> tuple[int, bool]:
        """Send a watcher its next response; returns the work and whether the sink took it."""
        current = self._slice
        assert current is not None and current.holds(watcher.next_revision)
        parcel = self._parcel(watcher, current)
        work = SERVE_WORK + len(parcel.entries)
        if parcel.entries and not parcel.send(watcher, header(), self._fragment_bytes):
            return work, False
        del self.ready[watcher]
        self._served(watcher, parcel.next_revision)
        if watcher in self.ready and current.holds(watcher.next_revision):
            self._cohort.append(watcher)
        return work, True

    def _parcel(self, watcher: Watcher, current: Slice) -> Parcel:
        key, end, kind = watcher.key, watcher.end, watcher.kind
        start = watcher.next_revision
        parcel = self._parcels.get((key, end, kind, start))
        if parcel is None:
            parcel = Parcel(*current.batch(key, end, kind, start))
            self._parcels[key, end, kind, start] = parcel
        return parcel
