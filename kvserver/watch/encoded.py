"""Events encoded once, and responses shared by every watcher that may share them (design D7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from kvserver import failpoints
from kvserver.watch.messages import Event, event_entry, fragments
from kvserver.watch.watcher import NO_DELETE, NO_PUT, PREV_KV, Sink, Watcher


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
        return [make(position) for position in positions if not is_filtered(events[position], kind)]

    def _entry(self, position: int) -> bytes:
        entry = self._plain.get(position)
        if entry is None:
            entry = self._plain[position] = event_entry(self.events[position], None)
        return entry

    def _entry_with_prev(self, position: int) -> bytes:
        entry = self._with_prev.get(position)
        if entry is None:
            event = self.events[position]
            prev_kv = prev_kv_of(event, self._history)
            entry = self._entry(position) if prev_kv is None else event_entry(event, prev_kv)
            self._with_prev[position] = entry
        return entry


def is_filtered(event: Event, kind: int) -> bool:
    """Whether a watcher of this kind does not want to hear of the event."""
    return bool(kind & (NO_DELETE if event.is_delete else NO_PUT))


def prev_kv_of(event: Event, history: History) -> bytes | None:
    """The key one revision earlier; none for creations or when compacted (N1-N3)."""
    if event.is_create or event.main - 1 < history.compact_revision:
        return None
    return history.kv_at(event.key, event.main - 1)


def deliver(
    watchers: Iterable[Watcher],
    entries: Sequence[bytes],
    header: bytes,
    limit_bytes: int,
    bodies: dict[int, bytes],
) -> list[Watcher] | None:
    """Send the same entries to every watcher whose sink takes them; returns the others.

    Hot path: once per watcher and revision. Watchers with the same id (each the first of its
    stream, say) share one bytes object; `bodies` are the responses made from these entries and
    this header so far.
    """
    failpoints.hit("beforeSendWatchResponse")
    events = entries[0] if len(entries) == 1 else b"".join(entries)
    if len(entries) > 1 and len(events) + len(header) + _ID_BYTES_MAX >= limit_bytes:
        return _deliver_large(watchers, entries, header, limit_bytes)
    slow: list[Watcher] | None = None
    # Neighbours of one stream, which were often created one after the other, go out together.
    together: list[bytes] = []
    neighbour: Sink | None = None
    together_max = 1 + TOGETHER_BYTES_MAX // (len(header) + len(events) + _ID_BYTES_MAX)
    for watcher in watchers:
        sink = watcher.sink
        if sink is not neighbour or len(together) >= together_max:
            if neighbour is not None and together:
                _send(neighbour, together)
                together = []
            neighbour = sink if sink.writable else None
        if neighbour is None:
            if slow is None:
                slow = []
            slow.append(watcher)
            continue
        watch_id = watcher.id
        body = bodies.get(watch_id)
        if body is None:
            body = bodies[watch_id] = header + watcher.id_field + events
        watcher.had_events = True
        together.append(body)
    if neighbour is not None and together:
        _send(neighbour, together)
    return slow


TOGETHER_BYTES_MAX = 8 * 1024
"""Responses for one stream that are handed over at once: they fit a frame."""


def _send(sink: Sink, bodies: list[bytes]) -> None:
    if len(bodies) == 1:
        sink.send(bodies[0])
    else:
        sink.send_many(bodies)


_ID_BYTES_MAX = 11


def _deliver_large(
    watchers: Iterable[Watcher], entries: Sequence[bytes], header: bytes, limit_bytes: int
) -> list[Watcher]:
    """Responses near the fragment limit F or above it (D6, D7)."""
    slow = []
    events = b"".join(entries)
    for watcher in watchers:
        if not watcher.sink.writable:
            slow.append(watcher)
            continue
        watcher.had_events = True
        prefix = header + watcher.id_field
        if watcher.wants_fragments and len(prefix) + len(events) >= limit_bytes:
            for body in fragments(prefix, entries, limit_bytes):
                watcher.sink.send(body)
        else:
            watcher.sink.send(prefix + events)
    return slow
