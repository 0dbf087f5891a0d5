"""Events encoded once, and responses shared by every watcher that may share them (design D7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from kvserver.watch.messages import Event, event_entry, fragments
from kvserver.watch.watcher import NO_DELETE, NO_PUT, PREV_KV, Watcher


class History(Protocol):
    """What the hub asks of the store."""

    @property
    def revision(self) -> int: ...

    @property
    def compact_revision(self) -> int: ...

    def events_between(
        self, first_revision: int, last_revision: int, limit_revisions: int
    ) -> Sequence[Sequence[Event]]: ...

    def kv_at(self, key: bytes, revision: int) -> bytes | None: ...


class EncodedEvents:
    """Events and their `WatchResponse.events` entries, made when first wanted.

    Both forms are kept, with and without prev_kv, because watchers of both kinds are common and
    a previous value costs a read of the store.
    """

    __slots__ = ("_history", "_plain", "_with_prev", "events")

    def __init__(self, events: Sequence[Event], history: History) -> None:
        self.events = events
        self._history = history
        self._plain: dict[int, bytes] = {}
        self._with_prev: dict[int, bytes] = {}

    def select(self, positions: Iterable[int], kind: int) -> list[bytes]:
        """Entries of the events at these positions that a watcher of this kind wants (W7)."""
        make = self._entry_with_prev if kind & PREV_KV else self._entry
        if not kind & (NO_PUT | NO_DELETE):
            return [make(position) for position in positions]
        events = self.events
        return [
            make(position)
            for position in positions
            if not kind & (NO_DELETE if events[position].is_delete else NO_PUT)
        ]

    def _entry(self, position: int) -> bytes:
        entry = self._plain.get(position)
        if entry is None:
            entry = self._plain[position] = event_entry(self.events[position], None)
        return entry

    def _entry_with_prev(self, position: int) -> bytes:
        entry = self._with_prev.get(position)
        if entry is None:
            event = self.events[position]
            prev_kv = self._prev_kv(event)
            entry = self._entry(position) if prev_kv is None else event_entry(event, prev_kv)
            self._with_prev[position] = entry
        return entry

    def _prev_kv(self, event: Event) -> bytes | None:
        """The key one revision earlier; none for creations or when compacted (N1-N3)."""
        if event.is_create or event.main - 1 < self._history.compact_revision:
            return None
        return self._history.kv_at(event.key, event.main - 1)


class Parcel:
    """The same entries for many watchers: only header and watch id differ between them."""

    __slots__ = ("_bodies", "_events", "_header", "_limit_bytes", "entries")

    def __init__(self, entries: list[bytes], limit_bytes: int) -> None:
        self.entries = entries
        self._events = entries[0] if len(entries) == 1 else b"".join(entries)
        self._limit_bytes = limit_bytes
        self._header = b""
        self._bodies: dict[int, bytes] = {}

    def deliver(self, watchers: Iterable[Watcher], header: bytes) -> list[Watcher]:
        """Send to every watcher whose sink takes it; returns those whose sink does not.

        Hot path: once per watcher and revision. Watchers with the same id (each the first of its
        stream, say) share one bytes object.
        """
        if header != self._header:
            self._header = header
            self._bodies = {}
        if len(self._events) + len(header) + 16 >= self._limit_bytes and len(self.entries) > 1:
            return self._deliver_large(watchers)
        bodies, events = self._bodies, self._events
        slow = []
        for watcher in watchers:
            sink = watcher.sink
            if sink.writable:
                watch_id = watcher.id
                body = bodies.get(watch_id)
                if body is None:
                    body = bodies[watch_id] = header + watcher.id_field + events
                watcher.had_events = True
                sink.send(body)
            else:
                slow.append(watcher)
        return slow

    def _deliver_large(self, watchers: Iterable[Watcher]) -> list[Watcher]:
        """Responses near the fragment limit F or above it (D6, D7)."""
        slow = []
        for watcher in watchers:
            if not watcher.sink.writable:
                slow.append(watcher)
                continue
            watcher.had_events = True
            prefix = self._header + watcher.id_field
            if watcher.wants_fragments and len(prefix) + len(self._events) >= self._limit_bytes:
                for body in fragments(prefix, self.entries, self._limit_bytes):
                    watcher.sink.send(body)
            else:
                watcher.sink.send(prefix + self._events)
        return slow
