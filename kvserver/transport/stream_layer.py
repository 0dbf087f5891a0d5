"""Requests and their streams on a connection: header blocks, DATA, and how streams end.

Invariants: `streams` holds exactly the streams of which we may still send a frame; stream ids
only grow; every byte of DATA is taken off the connection's window, whoever it was for, and the
window is restored from half on; a request is judged by its head before a handler hears of it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from kvserver.transport import frames
from kvserver.transport.budget import NuisanceBudget
from kvserver.transport.call import Call
from kvserver.transport.endpoint import Endpoint
from kvserver.transport.errors import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    INTERNAL,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFault,
)
from kvserver.transport.head import RequestHead
from kvserver.transport.hpack_cache import HeaderDecoder
from kvserver.transport.http2_exchange import HttpExchange
from kvserver.transport.http2_stream import Http2Stream
from kvserver.transport.output import Output
from kvserver.transport.peer import peer_of
from kvserver.transport.stream import Stream
from kvserver.transport.timed_call import TimedCall

REMEMBERED_STREAMS_MAX = 1000
"""Streams we ended before the peer did: what still comes for them is dropped, not a fault."""


class StreamLayer(Output):
    streams: dict[int, Http2Stream]

    def __init__(self, endpoint: Endpoint, transport: asyncio.Transport) -> None:
        super().__init__(endpoint.loop, endpoint.limits, endpoint.counters, endpoint.outbox)
        self.endpoint = endpoint
        self.transport = transport
        self.peer = peer_of(transport)
        limits = endpoint.limits
        self.streams = {}
        self.closing = False
        self.draining = False
        self.last_stream_id = 0
        self.received_bytes = 0
        """Request bytes held until their message or handler is ready for them."""
        self.receive_window = limits.connection_window_bytes
        self.receive_window_low = limits.connection_window_bytes // 2
        self.flush_bytes = limits.flush_bytes
        self.open_block: tuple[int, int, bytearray] | None = None
        self._decoder = HeaderDecoder(endpoint.heads)
        self._accepting = True
        self._calls_ended = 0
        self._half_open: OrderedDict[int, None] = OrderedDict()
        self._budget = NuisanceBudget(
            limits.nuisance_frames_burst, limits.nuisance_frames_per_second, endpoint.loop.time()
        )
        transport.set_write_buffer_limits(high=limits.socket_high_water_bytes)

    # Header blocks

    def on_headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        """HEADERS that are padded, carry a priority or go on in CONTINUATION."""
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.PRIORITY_FLAG:
            if len(payload) < 5:
                raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            if int.from_bytes(payload[:4], "big") & 0x7FFFFFFF == stream_id:
                raise ConnectionFault(PROTOCOL_ERROR, "stream depends on itself")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self.on_header_block(stream_id, flags, payload)
            return
        if not payload:
            self.nuisance()
        self.open_block = (stream_id, flags, bytearray(payload))

    def on_continuation(self, stream_id: int, flags: int, payload: bytes) -> None:
        if self.open_block is None or self.open_block[0] != stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        if len(payload) < 64:
            self.nuisance()
        _, first_flags, block = self.open_block
        block += payload
        if len(block) > self.limits.header_block_bytes_max:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "header block too long")
        if flags & frames.END_HEADERS:
            self.open_block = None
            self.on_header_block(stream_id, first_flags, bytes(block))

    def on_header_block(self, stream_id: int, flags: int, block: bytes) -> None:
        head, timeout = self._decoder.decode(block)
        ended = bool(flags & frames.END_STREAM)
        if stream_id <= self.last_stream_id or not stream_id & 1:
            self._on_later_headers(stream_id, ended)
            return
        self.last_stream_id = stream_id
        if (
            not self._accepting
            or len(self.streams) >= self.limits.concurrent_streams_max
            or self.unsent_bytes > self.limits.unsent_bytes_max
        ):
            self._refuse(stream_id, ended)
            return
        method = head.method
        if method is None:
            self._on_other_request(stream_id, head, ended)
            return
        call: Call | Stream
        if method.is_unary:
            kind = Call if method.on_handled is None else TimedCall
            call = kind(self, stream_id, head, method)
        else:
            call = Stream(self, stream_id, head, method)
        self.streams[stream_id] = call
        if timeout is not None:
            if timeout < 0:
                call.ended = ended
                call.fail(INTERNAL, "malformed grpc-timeout")
                return
            call.set_timeout(timeout)
        if type(call) is Stream:
            call.ended = ended
            call.start()
        elif ended:
            self._deliver(call, b"", True)

    def _on_later_headers(self, stream_id: int, ended: bool) -> None:
        """A header block for a stream that is not new: request trailers, or a fault."""
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id in self._half_open:
                self.nuisance()
                return
            code = STREAM_CLOSED if stream_id & 1 else PROTOCOL_ERROR
            raise ConnectionFault(code, "HEADERS on a stream that cannot be opened")
        if stream.ended:
            self.reset(stream, STREAM_CLOSED)
        elif not ended:
            self.reset(stream, PROTOCOL_ERROR)
        else:
            self._deliver(stream, b"", True)

    def _on_other_request(self, stream_id: int, head: RequestHead, ended: bool) -> None:
        if head.kind == "malformed":
            self.nuisance()
            self.emit(frames.rst_stream(stream_id, PROTOCOL_ERROR))
            self._remember(stream_id, ended)
        elif head.kind == "refused":
            self.emit_headers(stream_id, head.refusal, end_stream=True)
            if not ended:
                self.emit(frames.rst_stream(stream_id, NO_ERROR))
            self._remember(stream_id, ended)
        else:
            exchange = HttpExchange(self, stream_id, head)
            self.streams[stream_id] = exchange
            exchange.start(ended)

    def _refuse(self, stream_id: int, ended: bool) -> None:
        """The stream has not been looked at: the peer may send it elsewhere."""
        self.nuisance()
        self.emit(frames.rst_stream(stream_id, REFUSED_STREAM))
        self._remember(stream_id, ended)

    # DATA

    def on_data(self, stream_id: int, flags: int, payload: bytes) -> None:
        self.receive_window -= len(payload)
        if self.receive_window < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "connection window overrun")
        if self.receive_window < self.receive_window_low:
            self.restore_receive_window()
        if flags & frames.PADDED:
            padded_bytes = len(payload)
            payload = _unpadded(payload)
            padding = padded_bytes - len(payload)
        else:
            padding = 0
        ended = bool(flags & frames.END_STREAM)
        if not payload and not ended:
            self.nuisance()
        stream = self.streams.get(stream_id)
        if stream is None:
            self._on_stray_data(stream_id, ended)
        elif stream.ended:
            self.reset(stream, STREAM_CLOSED)
        else:
            if padding:
                self.consumed(stream, padding)
            self._deliver(stream, payload, ended)

    def _on_stray_data(self, stream_id: int, ended: bool) -> None:
        if stream_id in self._half_open:
            if ended:
                del self._half_open[stream_id]
        elif stream_id > self.last_stream_id or not stream_id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "DATA on an idle stream")
        else:
            self.nuisance()
            self.emit(frames.rst_stream(stream_id, STREAM_CLOSED))

    def _deliver(self, stream: Http2Stream, payload: bytes, ended: bool) -> None:
        expected = stream.head.content_length
        if expected is not None:
            stream.body_bytes += len(payload)
            if stream.body_bytes > expected or (ended and stream.body_bytes != expected):
                self.reset(stream, PROTOCOL_ERROR)
                return
        stream.ended = ended
        stream.data(payload, ended)

    def hold(self, stream: Http2Stream, growth: int, code: int) -> bool:
        """Counts request bytes that have to wait; False if that was too much for the stream."""
        self.received_bytes += growth
        if self.received_bytes <= self.limits.received_bytes_max:
            return True
        self.reset(stream, code)
        return False

    def consumed(self, stream: Http2Stream, size: int) -> None:
        """The stream can take `size` more bytes; the peer is told from half a window on."""
        stream.received += size
        if stream.received * 2 >= self.limits.stream_window_bytes:
            if not stream.ended:
                self.emit(frames.window_update(stream.stream_id, stream.received))
            stream.received = 0

    def restore_receive_window(self) -> None:
        full = self.limits.connection_window_bytes
        self.emit(frames.window_update(0, full - self.receive_window))
        self.receive_window = full

    # The end of a stream

    def release(self, stream: Http2Stream, expect_more: bool = False) -> None:
        """Our last frame of the stream is out. With `expect_more` the peer's may still come."""
        self._calls_ended += 1
        self.streams.pop(stream.stream_id, None)
        if expect_more:
            self._remember(stream.stream_id, False)
        if not self.streams:
            self.became_empty()

    def reset(self, stream: Http2Stream, code: int) -> None:
        """Ends the stream with RST_STREAM."""
        self.emit(frames.rst_stream(stream.stream_id, code))
        self._drop(stream)
        self._remember(stream.stream_id, False)

    def _drop(self, stream: Http2Stream) -> None:
        self.streams.pop(stream.stream_id, None)
        self.forget_output(stream)
        stream.closed()
        if not self.streams:
            self.became_empty()

    def _remember(self, stream_id: int, ended: bool) -> None:
        if ended:
            return
        self._half_open[stream_id] = None
        if len(self._half_open) > REMEMBERED_STREAMS_MAX:
            self._half_open.popitem(last=False)

    def became_empty(self) -> None:
        """The last open stream has ended."""

    def nuisance(self, cost: int = 1) -> None:
        """The frame at hand moves no request forward."""
        if self._budget.near(cost) and self._budget.exceeded(
            self.loop.time(), self.bytes_sent, self._calls_ended, self.messages_moved
        ):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many control frames")


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "padding as long as its frame")
    return payload[1 : len(payload) - payload[0]]
