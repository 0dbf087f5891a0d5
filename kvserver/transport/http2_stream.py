"""One HTTP/2 stream as the connection sees it; base of Call, Stream and the plain-HTTP exchange.

Life: open → the peer half-closes (`ended`) → we send trailers (`done`), in any order; or a reset.
The connection keeps a stream in its table until our last frame of it has been emitted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvserver.transport import frames
from kvserver.transport.head import MetadataValue, RequestHead
from kvserver.transport.peer import Peer

if TYPE_CHECKING:
    from kvserver.transport.stream_layer import StreamLayer


class Http2Stream:
    # No __slots__: class attributes serve as initial values, so that the hot path creates a call
    # with four assignments instead of fifteen.
    ended = False
    """The peer has half-closed."""
    done = False
    """Our answer is decided: nothing more is taken from the handler."""
    cancelled = False
    headers_sent = False
    queued_bytes = 0
    received = 0
    """DATA bytes since the last stream WINDOW_UPDATE."""
    body_bytes = 0
    """All DATA so far, counted only where content-length was given."""
    _queue: deque[bytes] | None = None
    _offset = 0
    _trailers: bytes | None = None

    def __init__(self, connection: StreamLayer, stream_id: int, head: RequestHead) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.head = head
        self.send_window = connection.initial_window

    @property
    def metadata(self) -> Mapping[str, MetadataValue]:
        return self.head.metadata

    @property
    def peer(self) -> Peer:
        return self.connection.peer

    @property
    def queued_messages(self) -> int:
        return len(self._queue) if self._queue else 0

    # What the connection calls

    def data(self, payload: bytes, ended: bool) -> None:
        """DATA arrived; `ended` with END_STREAM."""
        raise NotImplementedError

    def closed(self) -> None:
        """The peer reset the stream or is gone, or we reset it: no more frames either way."""
        raise NotImplementedError

    def take(self, size: int) -> bytes:
        """The next at most `size` queued bytes; only called when there are some."""
        assert self._queue
        parts = []
        left = size
        while left and self._queue:
            first = self._queue[0]
            part = first[self._offset : self._offset + left]
            left -= len(part)
            parts.append(part)
            self._offset += len(part)
            if self._offset == len(first):
                self._queue.popleft()
                self._offset = 0
        payload = b"".join(parts)
        self.queued_bytes -= len(payload)
        return payload

    def drained(self) -> None:
        """The queue is empty: the trailers' turn, if they are waiting."""
        if self._trailers is not None:
            self._emit_trailers()

    # What the subclasses call

    def _queue_data(self, payload: bytes) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(payload)
        self.queued_bytes += len(payload)
        self.connection.enqueue(self, len(payload))

    def _discard_queue(self) -> None:
        self.connection.forget_output(self)
        self._queue = None
        self._offset = 0
        self.queued_bytes = 0

    def _finish(self, trailers: bytes) -> None:
        """Sends `trailers` behind whatever is queued and ends the stream."""
        self._trailers = trailers
        if not self.queued_bytes:
            self._emit_trailers()

    def _emit_trailers(self) -> None:
        assert self._trailers is not None
        self.connection.emit_headers(self.stream_id, self._trailers, end_stream=True)
        self._trailers = None
        self._ended_by_us()

    def _ended_by_us(self) -> None:
        connection = self.connection
        if not self.ended:
            # The peer may still be sending: tell it to stop (RFC 9113 §8.1).
            connection.emit(frames.rst_stream(self.stream_id, 0))
        connection.release(self, expect_more=not self.ended)
