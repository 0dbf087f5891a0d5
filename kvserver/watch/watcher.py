"""A watcher: a cursor over revisions with an interest, and what it waits for."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from kvserver.watch.messages import watch_id_field

if TYPE_CHECKING:
    from kvserver.watch.stream import WatchStream

PREV_KV = 1
NO_PUT = 2
NO_DELETE = 4
"""Bits of `Watcher.kind`: which form of which events it wants. Equal kinds share their bytes."""

NUL = b"\x00"


class Sink(Protocol):
    """Where a stream's responses go. `send` queues and never blocks or calls back."""

    @property
    def writable(self) -> bool: ...

    def send(self, body: bytes) -> None: ...

    def send_many(self, bodies: list[bytes]) -> None:
        """The same as `send` for each, in order; cheaper."""


class Phase(IntEnum):
    """What a watcher waits for. Only the hub moves a watcher from one phase to another."""

    LIVE = 0  # everything up to the hub's revision was sent; gets each revision as it comes
    LAGGING = 1  # reads the store from `next_revision`, or waits for its sink to take more
    FUTURE = 2  # its start_revision lies ahead (spec/watch.md W5)
    CANCELED = 3  # over; after a compaction the id stays taken until the client cancels it (W10)


class Watcher:
    """One watch of one stream. Owner: the loop, through the hub.

    `next_revision` is the first revision not yet dealt with. It is kept only while the watcher
    is not live: a live watcher's is the hub's revision + 1, which spares an update per event.
    """

    __slots__ = (
        "end",
        "had_events",
        "id",
        "id_field",
        "key",
        "kind",
        "next_revision",
        "phase",
        "sink",
        "stream",
        "wants_fragments",
        "wants_progress",
    )

    def __init__(self, stream: WatchStream, watch_id: int, key: bytes, end: bytes) -> None:
        self.stream = stream
        self.sink = stream.sink  # one look-up less per delivery
        self.id = watch_id
        self.id_field = watch_id_field(watch_id)
        self.key = key
        self.end = end
        self.kind = 0
        self.wants_fragments = False
        self.wants_progress = False
        self.had_events = False
        self.phase = Phase.CANCELED
        self.next_revision = 0
