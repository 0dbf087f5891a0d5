"""A live watch in a thread of its own, and what nobody has taken from it yet.

Bounded whatever the cluster does: only the newest events are kept, all others are counted with
the revisions they span. Two threads meet here, the watch's and the taker's, under one lock.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
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
        self.first = self.first or kv.mod_revision
        self.last = kv.mod_revision


@dataclass(frozen=True, slots=True)
class Taken:
    """What came since the last taking: the newest events, oldest first, and how many more."""

    events: tuple[Event, ...] = ()
    left_out: Tally = field(default_factory=Tally)
    gaps: tuple[tuple[int, int], ...] = ()


class Feed:
    def __init__(
        self, client: Client, keys: KeyRange, *, start: int, puts: bool, deletes: bool
    ) -> None:
        request = rpc_pb2.WatchCreateRequest(key=keys.start, range_end=wire_end(keys), prev_kv=True)
        if not puts:
            request.filters.append(rpc_pb2.WatchCreateRequest.NOPUT)
        if not deletes:
            request.filters.append(rpc_pb2.WatchCreateRequest.NODELETE)
        self._follow = Follow(client, request, start=start)
        self._lock = threading.Lock()
        self._kept: deque[Any] = deque()
        self._kept_bytes = 0
        self._left_out = Tally()
        self._gaps: list[tuple[int, int]] = []
        self.kept_max = 10
        self.total = Tally()
        self.compacted = 0
        self.next_revision = start
        self.connection = Connection("connecting", start)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._follow.close()

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._kept) + self._left_out.events

    @property
    def has_gaps(self) -> bool:
        return bool(self._gaps)

    def take(self) -> Taken:
        with self._lock:
            kept, self._kept, self._kept_bytes = self._kept, deque(), 0
            left_out, self._left_out = self._left_out, Tally()
            gaps, self._gaps = self._gaps, []
        return Taken(tuple(map(wire.event, kept)), left_out, tuple(gaps))

    def _run(self) -> None:
        try:
            for item in self._follow:
                self._note(item)
        except CallFailed as error:
            refused = domain_error(error)
            why = refused.message.removeprefix("etcdserver: ") or refused.code
            self.connection = Connection("stopped", self.next_revision, why)

    def _note(self, item: object) -> None:
        if isinstance(item, Events):
            with self._lock:
                for event in item.events:
                    self._keep(event)
                self.next_revision = self._follow.next_revision
        elif isinstance(item, Live):
            self.connection = Connection("live", item.revision)
        elif isinstance(item, Resuming):
            self.connection = Connection("resuming", item.revision, item.why.message)
        elif isinstance(item, Gap):
            with self._lock:
                self._gaps = [*self._gaps, (item.first, item.last)][-GAPS_MAX:]
                self.compacted, self.next_revision = item.last, item.last + 1

    def _keep(self, event: Any) -> None:
        """Hot: ten thousand a second pass here, and stay messages until somebody looks."""
        self.total.add(event)
        self._kept.append(event)
        self._kept_bytes += len(event.kv.value) + len(event.prev_kv.value)
        while len(self._kept) > self.kept_max or self._kept_bytes > KEPT_BYTES_MAX:
            oldest = self._kept.popleft()
            self._kept_bytes -= len(oldest.kv.value) + len(oldest.prev_kv.value)
            self._left_out.add(oldest)
