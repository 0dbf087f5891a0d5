"""A unary call. The handler answers at once, later through `reply`, or as a task."""

from __future__ import annotations

from typing import Any

from kvserver.transport import header_blocks
from kvserver.transport.errors import INTERNAL, REFUSED_STREAM, RpcError
from kvserver.transport.grpc import MessageReader, message
from kvserver.transport.grpc_stream import GrpcStream


class Call(GrpcStream):
    _reader: MessageReader | None = None
    _body: bytes | None = None
    request = b""
    """The request's message, once it is whole."""
    _held_bytes = 0
    is_watched = False
    """Whether its end will be told (slow_calls.py)."""

    def dispatch(self, body: bytes) -> None:
        """The request is complete: runs the handler."""
        self.request = body
        method = self.method
        method.counters.messages_received += 1
        if method.is_task:
            self._run(method.handler(self, body))
            return
        try:
            reply = method.handler(self, body)
        except Exception as error:
            self._fail_with(error)
            return
        if reply is not None:
            self.reply(reply)

    def reply(self, body: bytes) -> None:
        """Answers with OK and `body`. Nothing happens if the call has already ended."""
        if self.done:
            return
        # `_settle` written out: this runs once per call.
        self.done = True
        self.on_cancel = None
        if self._slot is not None:
            self._slot.discard(self)
            self._slot = None
        counters = self.method.counters
        counters.ok += 1
        counters.messages_sent += 1
        connection = self.connection
        if connection.emit_reply(self, body):
            connection.release(self)
            return
        self.headers_sent = True
        connection.emit_headers(self.stream_id, header_blocks.GRPC_RESPONSE, end_stream=False)
        self._queue_data(message(body))
        self._finish(header_blocks.GRPC_OK_TRAILERS)

    def data(self, payload: bytes, ended: bool) -> None:
        """Any DATA but the common one that holds one whole message and ends the stream."""
        if self.done:
            return
        reader = self._reader
        if reader is None:
            reader = MessageReader(self.head.encoding, self.method.request_bytes_max)
            self._reader = reader
        try:
            for body in reader.feed(payload):
                if self._body is not None:
                    raise RpcError(INTERNAL, "more than one message in a unary request")
                self._body = body
            if ended and reader.held_bytes:
                raise RpcError(INTERNAL, "unexpected EOF")
            if ended and self._body is None:
                raise RpcError(INTERNAL, "no message in a unary request")
        except RpcError as error:
            self._release_held()
            self.fail(error.code, error.message)
            return
        if ended:
            whole, self._body, self._reader = self._body, None, None
            self._release_held()
            assert whole is not None
            self.dispatch(whole)
            return
        self._held_bytes += len(payload)
        if self.connection.hold(self, len(payload), REFUSED_STREAM):
            self.connection.consumed(self, len(payload))

    def closed(self) -> None:
        self._release_held()
        super().closed()

    def _release_held(self) -> None:
        self.connection.received_bytes -= self._held_bytes
        self._held_bytes = 0

    def _settle(self, code: int) -> None:
        super()._settle(code)
        self._reader = self._body = None

    def _returned(self, result: Any) -> None:
        self.reply(result)
