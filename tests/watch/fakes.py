"""A small history and sinks that record, for the hub's tests."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from kvserver.proto import kv_pb2, rpc_pb2
from kvserver.watch.messages import varint


class FakeEvent(NamedTuple):
    key: bytes
    kv: bytes
    is_delete: bool
    is_create: bool
    main: int
    sub: int


class FakeHistory:
    """A list of revisions, as simple as a store can be; revision 1 is the empty store."""

    def __init__(self) -> None:
        self.revision = 1
        self.compact_revision = -1
        self.truth: dict[int, list[kv_pb2.Event]] = {}
        self.asked: list[int] = []
        self._states: list[dict[bytes, kv_pb2.KeyValue]] = [{}, {}]
        self._events: dict[int, list[FakeEvent]] = {}

    def commit(self, *changes: tuple[bytes, bytes | None], lease: int = 0) -> list[FakeEvent]:
        """One revision of puts (key, value) and deletes (key, None)."""
        before = self._states[self.revision]
        state = dict(before)
        self.revision += 1
        events, truth = [], []
        for sub, (key, value) in enumerate(changes):
            old = state.get(key)
            kv = kv_pb2.KeyValue(key=key, mod_revision=self.revision)
            event = kv_pb2.Event(kv=kv)
            if value is None:
                state.pop(key, None)
                event.type = kv_pb2.Event.DELETE
            else:
                kv.value, kv.lease = value, lease
                kv.version = old.version + 1 if old else 1
                kv.create_revision = old.create_revision if old else self.revision
                state[key] = kv
                event.kv.CopyFrom(kv)
            is_create = value is not None and kv.create_revision == self.revision
            if not is_create and key in before:
                event.prev_kv.CopyFrom(before[key])
            truth.append(event)
            raw = kv.SerializeToString(deterministic=True)
            events.append(FakeEvent(key, raw, value is None, is_create, self.revision, sub))
        self._states.append(state)
        self._events[self.revision] = events
        self.truth[self.revision] = truth
        return events

    def keys(self) -> list[bytes]:
        return sorted(self._states[self.revision])

    def compact(self, revision: int) -> None:
        """Keeps, like the store, what is live at `revision` and what was written at it (D5)."""
        assert self.compact_revision < revision <= self.revision
        self.compact_revision = revision

    def events_between(
        self, first_revision: int, last_revision: int, limit_revisions: int
    ) -> list[list[FakeEvent]]:
        assert first_revision >= self.compact_revision, "compacted history is never asked for"
        assert last_revision <= self.revision
        self.asked.append(limit_revisions)
        first = max(first_revision, 2)
        last = min(last_revision, first + limit_revisions - 1)
        return [self._events[r] for r in range(first, last + 1)]

    def kv_at(self, key: bytes, revision: int) -> bytes | None:
        assert revision >= self.compact_revision, "compacted history is never asked for"
        kv = self._states[revision].get(key)
        return None if kv is None else kv.SerializeToString(deterministic=True)


def encode_header(revision: int) -> bytes:
    """Field 1 of a response: cluster 7, member 9, the revision, term 3."""
    body = b"\x08\x07\x10\x09" + (b"\x18" + varint(revision) if revision else b"") + b"\x20\x03"
    return b"\x0a" + varint(len(body)) + body


class FakeSink:
    """Takes `room` responses until `read` makes room again."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.queue: deque[bytes] = deque()
        self.was_full = False

    @property
    def writable(self) -> bool:
        is_full = len(self.queue) >= self.room
        self.was_full = self.was_full or is_full
        return not is_full

    def send_many(self, bodies: list[bytes]) -> None:
        for body in bodies:
            self.send(body)

    def send(self, body: bytes) -> None:
        self.queue.append(body)

    def read(self, count: int | None = None) -> list[rpc_pb2.WatchResponse]:
        taken = [self.queue.popleft() for _ in range(min(count or 1 << 30, len(self.queue)))]
        return [rpc_pb2.WatchResponse.FromString(body) for body in taken]
