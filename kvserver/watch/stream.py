"""One client stream of watchers: its requests and its ids (spec/watch.md §1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvserver.errors import Compacted
from kvserver.proto import rpc_pb2
from kvserver.watch import messages
from kvserver.watch.watcher import NO_DELETE, NO_PUT, NUL, PREV_KV, Phase, Sink, Watcher

if TYPE_CHECKING:
    from kvserver.watch.hub import Hub

Authorize = Callable[[bytes, bytes], str | None]
"""Says why this stream's user may not watch [key, end), or None if it may (spec/watch.md §6)."""

RANGE_EMPTY = "mvcc: watcher range is empty"
DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"

_FILTERS = {
    rpc_pb2.WatchCreateRequest.NOPUT: NO_PUT,
    rpc_pb2.WatchCreateRequest.NODELETE: NO_DELETE,
}


def allow_all(key: bytes, end: bytes) -> str | None:
    return None


class WatchStream:
    """The watchers of one stream. Made by `Hub.open_stream`; owner: the loop.

    Answers to requests are sent even when the sink is full: whoever feeds requests must pause
    while it is, or a client that only writes could fill the queue.
    """

    def __init__(self, hub: Hub, sink: Sink, authorize: Authorize) -> None:
        self.sink = sink
        self.watchers: dict[int, Watcher] = {}
        self.parked: dict[Watcher, None] = {}
        """Lagging watchers that wait for the sink; a dict as an ordered set."""
        self.behind = 0
        """Watchers that are lagging or wait for a future revision."""
        self._hub = hub
        self._authorize = authorize
        self._next_id = 0

    def request(self, request: rpc_pb2.WatchRequest) -> None:
        """Handle one request; an empty or unknown one is ignored."""
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            self._cancel(request.cancel_request.watch_id)
        elif kind == "progress_request":
            self._progress()

    def resume(self) -> None:
        """The sink takes responses again: parked watchers go on in the hub's next step."""
        parked = list(self.parked)
        self.parked.clear()
        self._hub.resume(parked)

    def progress_tick(self) -> None:
        """Progress for watchers that asked and had nothing to hear since the last tick (G2)."""
        header = b""
        for watcher in self.watchers.values():
            if not watcher.wants_progress:
                continue
            had_events, watcher.had_events = watcher.had_events, False
            if had_events or watcher.phase is not Phase.LIVE or not self.sink.writable:
                continue
            header = header or self._hub.header(self._hub.revision)
            self.sink.send(messages.progress(header, watcher.id))

    def close(self) -> None:
        """The stream is over, and its watchers with it (W14)."""
        for watcher in self.watchers.values():
            self._hub.stop(watcher)
        self.watchers.clear()
        self._hub.streams.pop(self, None)

    def _create(self, request: rpc_pb2.WatchCreateRequest) -> None:
        hub = self._hub
        key = request.key or NUL
        end = request.range_end
        reason = self._refusal(request, key, end)
        if reason is not None:
            self.sink.send(messages.refused(hub.header(hub.revision), reason))
            return
        watcher = Watcher(self, request.watch_id or self._take_id(), key, end)
        watcher.kind = PREV_KV if request.prev_kv else 0
        for name in request.filters:
            watcher.kind |= _FILTERS.get(name, 0)
        watcher.wants_fragments = request.fragment
        watcher.wants_progress = request.progress_notify
        self.watchers[watcher.id] = watcher
        self.sink.send(messages.created(hub.header(hub.revision), watcher.id))
        hub.start(watcher, request.start_revision)

    def _refusal(self, request: rpc_pb2.WatchCreateRequest, key: bytes, end: bytes) -> str | None:
        """The checks of W2, in its order."""
        if request.start_revision < 0:
            return Compacted.message
        reason = self._authorize(key, end)
        if reason is not None:
            return reason
        if end and end != NUL and key >= end:
            return RANGE_EMPTY
        if request.watch_id and request.watch_id in self.watchers:
            return DUPLICATE_ID
        return None

    def _take_id(self) -> int:
        """The counter's next free id; explicit ids do not move it (W3)."""
        while self._next_id in self.watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _cancel(self, watch_id: int) -> None:
        watcher = self.watchers.pop(watch_id, None)
        if watcher is None:
            return
        self._hub.stop(watcher)
        header = self._hub.header(self._hub.revision)
        self.sink.send(messages.canceled(header, watch_id))

    def _progress(self) -> None:
        """One answer for the whole stream, if every watcher of it is live (W11)."""
        is_watching = any(w.phase is not Phase.CANCELED for w in self.watchers.values())
        if is_watching and not self.behind and self.sink.writable:
            header = self._hub.header(self._hub.revision)
            self.sink.send(messages.progress(header, messages.BROADCAST_ID))
