"""A live watch of several ranges, and what nobody has taken from it yet.

Bounded whatever the cluster does: only the newest events are kept, all others are counted with
the revisions they span. A thread a range brings events in; they and the taker meet under one
lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from console.gateway import wire
from console.gateway.errors import domain_error
from console.gateway.events import wire_end
from console.gateway.records import Event
from console.keys.paging import KeyRange
from kvserver.client import CallFailed, Client, Events, Follow, Gap, Live, Resuming
from kvserver.proto import kv_pb2, rpc_pb2

KEPT_BYTES_MAX = 8 * 1024 * 1024
GAPS_MAX = 20
EVENT_BYTES = 500
"""What an event weighs beside its values: kept ones are bounded by their weight."""


@dataclass(frozen=True, slots=True)
class Connection:
    """`state`: connecting, live, resuming or stopped. `revision`: where it goes on from."""

    state: str
    revision: int
    why: str = ""


@dataclass(slots=True)
class Tally:
    """Events counted by what they did. `first` and `last`: the revisions they span."""

    creates: int = 0
    puts: int = 0
    deletes: int = 0
    first: int = 0
    last: int = 0

    @property
    def events(self) -> int:
        return self.creates + self.puts + self.deletes

    def add(self, event: Any) -> None:
        kv = event.kv
        if event.type == kv_pb2.Event.DELETE:
            self.deletes += 1
        elif kv.create_revision == kv.mod_revision:
            self.creates += 1
        else:
            self.puts += 1
        if not self.first or kv.mod_revision < self.first:
            self.first = kv.mod_revision
        if kv.mod_revision > self.last:
            self.last = kv.mod_revision


@dataclass(frozen=True, slots=True)
class Lost:
    """Events of these revisions were compacted before they could be shown."""

    keys: KeyRange
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What came since the last taking: the newest events, oldest first, and how many more.
    `total` counts both. `reached`: the next revision of each range behind just these events."""

    events: tuple[Event, ...]
    left_out: Tally
    gaps: tuple[Lost, ...]
    total: Tally
    reached: tuple[tuple[KeyRange, int], ...]

    @property
    def has_rows(self) -> bool:
        return bool(self.events or self.left_out.events or self.gaps)


class Feed:
    """`start` begins it, `close` ends it; both return at once."""

    def __init__(
        self,
        *,
        wants: Callable[[bytes], bool] = lambda key: True,
        is_new: Callable[[bytes, int], bool] = lambda key, revision: True,
        kept_max: int,
    ) -> None:
        """`wants` says which keys count, `is_new` whether their event of a revision does."""
        self.wants, self.is_new = wants, is_new
        self._lock = threading.Lock()
        self._kept: deque[Any] = deque()
        self._kept_bytes = 0
        self._left_out = Tally()
        self._total = Tally()
        self._gaps: deque[Lost] = deque(maxlen=GAPS_MAX)
        self.kept_max = kept_max
        self.arrived = self.passed_over = 0
        """Events that were wanted and that were not, ever."""
        self.parts: list[Part] = []

    def start(self) -> None:
        for part in self.parts:
            part.thread.start()

    def close(self) -> None:
        for part in self.parts:
            part.follow.close()

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._kept) + self._left_out.events

    def take(self) -> Taken:
        """Ranges arrive independently: within one taking they are in the order of revisions."""
        with self._lock:
            kept, self._kept, self._kept_bytes = self._kept, deque(), 0
            left_out, self._left_out = self._left_out, Tally()
            total, self._total = self._total, Tally()
            gaps = tuple(self._gaps)
            self._gaps.clear()
            reached = tuple((part.keys, part.next_revision) for part in self.parts)
        events = sorted(map(wire.event, kept), key=lambda event: event.revision)
        return Taken(tuple(events), left_out, gaps, total, reached)

    def note_events(self, part: Part, events: list[Any], next_revision: int) -> None:
        with self._lock:
            for event in events:
                if not self.wants(event.kv.key):
                    self.passed_over += 1
                elif self.is_new(event.kv.key, event.kv.mod_revision):
                    self._keep(event)
            part.next_revision = next_revision

    def note_reached(self, part: Part, next_revision: int) -> None:
        with self._lock:
            part.next_revision = max(part.next_revision, next_revision)

    def note_gap(self, part: Part, gap: Gap) -> None:
        with self._lock:
            self._gaps.append(Lost(part.keys, gap.first, gap.last))
            part.compacted, part.next_revision = gap.last, gap.last + 1

    def _keep(self, event: Any) -> None:
        """Hot: ten thousand a second pass here, and stay messages until somebody looks."""
        self.arrived += 1
        self._total.add(event)
        self._kept.append(event)
        self._kept_bytes += _weight(event)
        while len(self._kept) > self.kept_max or self._kept_bytes > KEPT_BYTES_MAX:
            oldest = self._kept.popleft()
            self._kept_bytes -= _weight(oldest)
            self._left_out.add(oldest)


class Part:
    """One range of a feed, followed in a thread of its own, which alone writes what it tells."""

    def __init__(self, feed: Feed, keys: KeyRange, follow: Follow) -> None:
        self._feed = feed
        self.keys = keys
        self.follow = follow
        self.compacted = 0
        self.next_revision = follow.next_revision
        self.connection = Connection("connecting", follow.next_revision)
        self.thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def _run(self) -> None:
        try:
            for item in self.follow:
                self.note(item)
        except CallFailed as error:
            refused = domain_error(error)
            why = refused.message.removeprefix("etcdserver: ") or refused.code
            self.connection = Connection("stopped", self.next_revision, why)

    def note(self, item: object) -> None:
        if isinstance(item, Events):
            self._feed.note_events(self, item.events, self.follow.next_revision)
        elif isinstance(item, Live):
            self._feed.note_reached(self, item.revision)
            self.connection = Connection("live", item.revision)
        elif isinstance(item, Resuming):
            self.connection = Connection("resuming", item.revision, item.why.message)
        elif isinstance(item, Gap):
            self._feed.note_gap(self, item)


def feed_of(
    client: Client,
    starts: Iterable[tuple[KeyRange, int]],
    *,
    puts: bool,
    deletes: bool,
    **wanted: Any,
) -> Feed:
    """A feed of ranges that share no key, each from its own revision on."""
    feed = Feed(**wanted)
    for keys, start in starts:
        request = rpc_pb2.WatchCreateRequest(key=keys.start, range_end=wire_end(keys), prev_kv=True)
        if not puts:
            request.filters.append(rpc_pb2.WatchCreateRequest.NOPUT)
        if not deletes:
            request.filters.append(rpc_pb2.WatchCreateRequest.NODELETE)
        feed.parts.append(Part(feed, keys, Follow(client, request, start=start)))
    return feed


def _weight(event: Any) -> int:
    return EVENT_BYTES + len(event.kv.key) + len(event.kv.value) + len(event.prev_kv.value)
