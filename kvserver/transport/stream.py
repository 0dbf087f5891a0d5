"""A server-streaming or bidirectional call, run by one task: the handler.

Reading: the peer may send one window ahead of the handler; its window grows as messages are taken.
Sending never blocks: what the peer's windows do not admit is queued, and a handler that cares for
memory looks at `writable`, `on_writable` or `drain`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from kvserver.transport import header_blocks
from kvserver.transport.errors import ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, INTERNAL, OK, RpcError
from kvserver.transport.grpc import PREFIX_BYTES, MessageReader, message
from kvserver.transport.grpc_stream import GrpcStream


class Stream(GrpcStream):
    on_writable: Callable[[], None] | None = None
    """Called (in a later turn) once the queue has fallen below the low-water mark again."""
    _reader: MessageReader | None = None
    _waiter: asyncio.Future[None] | None = None
    _drained: asyncio.Future[None] | None = None
    _uncredited = 0
    _held_bytes = 0
    _full = False
    _messages: deque[bytes]

    def start(self) -> None:
        self._messages = deque()
        self._reader = MessageReader(self.head.encoding, self.method.request_bytes_max)
        self._run(self.method.handler(self))

    # Receiving

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        while not self._messages:
            if self.ended or self.done:
                raise StopAsyncIteration
            self._waiter = self.connection.endpoint.loop.create_future()
            await self._waiter
        body = self._messages.popleft()
        self._hold(-len(body))
        credit = self._uncredited
        if self._messages:
            credit = min(credit, len(body) + PREFIX_BYTES)
        self._credit(credit)
        return body

    def data(self, payload: bytes, ended: bool) -> None:
        reader = self._reader
        if self.done or reader is None:
            self.connection.consumed(self, len(payload))
            return
        try:
            before = reader.held_bytes
            messages = reader.feed(payload)
            if ended and reader.held_bytes:
                raise RpcError(INTERNAL, "unexpected EOF")
        except RpcError as error:
            self._cancel_with(error.code, error.message)
            return
        self.method.counters.messages_received += len(messages)
        self.connection.messages_moved += len(messages)
        self._messages.extend(messages)
        self._uncredited += len(payload)
        if self._uncredited + self.received > self.connection.limits.stream_window_bytes:
            self.connection.reset(self, FLOW_CONTROL_ERROR)
            return
        if not self._messages:
            # Part of a message: the handler cannot take it before the rest has come.
            self._credit(self._uncredited)
        growth = sum(map(len, messages)) + reader.held_bytes - before
        self._held_bytes += growth
        if not self.connection.hold(self, growth, ENHANCE_YOUR_CALM):
            return
        if messages or ended:
            self._wake()

    def _hold(self, growth: int) -> None:
        self._held_bytes += growth
        self.connection.received_bytes += growth

    def _credit(self, size: int) -> None:
        self._uncredited -= size
        self.connection.consumed(self, size)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # Sending

    @property
    def writable(self) -> bool:
        """False from the high-water mark on, until the queue is below the low-water mark."""
        return not self._full

    def send(self, body: bytes) -> None:
        """Sends one message, or queues it. Nothing happens once the stream has ended."""
        if self.done:
            return
        self.method.counters.messages_sent += 1
        if not self.headers_sent:
            self.send_headers()
        connection = self.connection
        if not connection.emit_message(self, body):
            self._queue_data(message(body))
            if self.queued_bytes >= connection.limits.stream_high_water_bytes:
                self._full = True

    def send_many(self, bodies: list[bytes]) -> None:
        """The same as `send` for each, in one DATA frame if it fits."""
        if self.done:
            return
        if not self.headers_sent:
            self.send_headers()
        if self.connection.emit_messages(self, bodies):
            self.method.counters.messages_sent += len(bodies)
            return
        for body in bodies:
            self.send(body)

    def send_headers(self) -> None:
        """The response headers, which otherwise leave with the first message."""
        if not self.headers_sent and not self.done:
            self.headers_sent = True
            self.connection.emit_headers(self.stream_id, header_blocks.GRPC_RESPONSE, False)

    async def drain(self) -> None:
        """Returns when the stream is writable; after a full queue, below the low-water mark."""
        if not self._full or self.done:
            return
        if self._drained is None:
            self._drained = self.connection.endpoint.loop.create_future()
        await asyncio.shield(self._drained)

    def take(self, size: int) -> bytes:
        payload = super().take(size)
        if self._full and self.queued_bytes <= self.connection.limits.stream_low_water_bytes:
            self._full = False
            self._release_drain()
            if self.on_writable is not None and not self.done:
                self.connection.loop.call_soon(self._tell_writable)
        return payload

    def _tell_writable(self) -> None:
        on_writable = self.on_writable
        if on_writable is not None:
            try:
                on_writable()
            except Exception as error:
                self._cancel_with(*self.connection.endpoint.status_of(error, self.method.path))

    def _release_drain(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # The end

    def _returned(self, result: Any) -> None:
        self._settle(OK)
        if self.headers_sent:
            self._finish(header_blocks.GRPC_OK_TRAILERS)
        else:
            self._finish(header_blocks.GRPC_RESPONSE + header_blocks.GRPC_OK_TRAILERS)

    def _settle(self, code: int) -> None:
        super()._settle(code)
        self._hold(-self._held_bytes)
        self._messages.clear()
        self._reader = None
        self.on_writable = None
        self._wake()
        self._release_drain()

    def closed(self) -> None:
        self._discard_queue()
        super().closed()
