"""The sending half of an HTTP/2 connection: one write per loop turn, under flow control.

Frames are appended to a list and leave in one `transport.write`. DATA that the peer's windows do
not admit, or that the socket has no room for, waits in its stream's queue and goes out round
robin, a frame per stream, when there is room again.

Invariants: `send_window` is what the peer still admits on the connection and is never overdrawn;
a stream is in `_blocked` exactly while it has something queued; nothing of a stream follows its
trailers. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from struct import Struct
from typing import TYPE_CHECKING

from kvserver.transport import frames, header_blocks
from kvserver.transport.counters import Counters
from kvserver.transport.limits import TransportLimits
from kvserver.transport.outbox import Outbox

if TYPE_CHECKING:
    from kvserver.transport.http2_stream import Http2Stream

_RESPONSE = header_blocks.GRPC_RESPONSE
_TRAILERS = header_blocks.GRPC_OK_TRAILERS

# A whole reply is one pack call around the body instead of five frames glued together.
_REPLY_HEAD = Struct(f">5sL{len(_RESPONSE)}sHBHLBL")
_REPLY_TAIL = Struct(f">5sL{len(_TRAILERS)}s")
_MESSAGE_HEAD = Struct(">HBHLBL")
_HEADERS_START = frames.frame(frames.HEADERS, frames.END_HEADERS, 0, _RESPONSE)[:5]
_TRAILERS_START = frames.frame(
    frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 0, _TRAILERS
)[:5]
_pack_reply_head = _REPLY_HEAD.pack
_pack_message_head = _MESSAGE_HEAD.pack
_pack_tail = _REPLY_TAIL.pack


class Output:
    """Base of the connection; knows streams only as queues."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: TransportLimits,
        counters: Counters,
        outbox: Outbox,
    ) -> None:
        self.loop = loop
        self._outbox = outbox
        self.limits = limits
        self.counters = counters
        self.transport: asyncio.Transport | None = None
        self.send_window = frames.WINDOW_BYTES_DEFAULT
        self.initial_window = frames.WINDOW_BYTES_DEFAULT
        self.frame_bytes_max = frames.FRAME_BYTES_DEFAULT
        self.bytes_sent = 0
        self.messages_moved = 0
        """Of streams, either way: honest peers answer each with window updates and pings."""
        self.unsent_bytes = 0
        """Queued DATA of all streams."""
        self.write_paused = False
        self.output_seen = False
        """HEADERS or DATA left since the last ping: a ping then is no strike."""
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_due = False
        self._fast = True
        self._table_update_due = False
        self._encoder_table_bytes = 4096
        self._blocked: dict[int, Http2Stream] = {}

    # Frames out

    def emit(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._flush_due:
            self._flush_due = True
            self._outbox.add(self)

    def emit_headers(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        if self._table_update_due:
            self._table_update_due = False
            self._fast = True
            block = header_blocks.TABLE_SIZE_ZERO + block
        self.output_seen = True
        flags = frames.END_STREAM if end_stream else 0
        size = self.frame_bytes_max
        if len(block) <= size:
            self.emit(frames.frame(frames.HEADERS, flags | frames.END_HEADERS, stream_id, block))
            return
        self.emit(frames.frame(frames.HEADERS, flags, stream_id, block[:size]))
        for start in range(size, len(block), size):
            last = frames.END_HEADERS if start + size >= len(block) else 0
            piece = block[start : start + size]
            self.emit(frames.frame(frames.CONTINUATION, last, stream_id, piece))

    def emit_end(self, stream_id: int) -> None:
        self.emit(frames.frame(frames.DATA, frames.END_STREAM, stream_id))

    def emit_reply(self, stream: Http2Stream, body: bytes) -> bool:
        """HEADERS, DATA and OK trailers in one piece; False if the windows do not admit it."""
        size = len(body) + 5
        if (
            size > self.send_window
            or size > stream.send_window
            or size > self.frame_bytes_max
            or not self._fast
        ):
            return False
        self.send_window -= size
        stream_id = stream.stream_id
        # 0 is the DATA type and no flags, then the uncompressed flag of the message.
        self._out.append(
            _pack_reply_head(
                _HEADERS_START,
                stream_id,
                _RESPONSE,
                size >> 8,
                size & 0xFF,
                0,
                stream_id,
                0,
                size - 5,
            )
            + body
            + _pack_tail(_TRAILERS_START, stream_id, _TRAILERS)
        )
        self._out_bytes += size
        self.output_seen = True
        if not self._flush_due:
            self._flush_due = True
            self._outbox.add(self)
        return True

    def emit_message(self, stream: Http2Stream, body: bytes) -> bool:
        """One message of a stream in one DATA frame; False if it has to be queued."""
        size = len(body) + 5
        if (
            size > self.send_window
            or size > stream.send_window
            or size > self.frame_bytes_max
            or self.write_paused
            or stream.queued_bytes
        ):
            return False
        self.send_window -= size
        stream.send_window -= size
        self._out.append(
            _pack_message_head(size >> 8, size & 0xFF, 0, stream.stream_id, 0, size - 5) + body
        )
        self.messages_moved += 1
        self._out_bytes += size
        self.output_seen = True
        if not self._flush_due:
            self._flush_due = True
            self._outbox.add(self)
        return True

    def emit_messages(self, stream: Http2Stream, bodies: list[bytes]) -> bool:
        """Several messages of a stream in one DATA frame; False if they have to go one by one."""
        payload = b"".join([b"\0" + len(body).to_bytes(4) + body for body in bodies])
        size = len(payload)
        if (
            size > self.send_window
            or size > stream.send_window
            or size > self.frame_bytes_max
            or self.write_paused
            or stream.queued_bytes
        ):
            return False
        self.send_window -= size
        stream.send_window -= size
        self.emit(frames.frame(frames.DATA, 0, stream.stream_id, payload))
        self.messages_moved += len(bodies)
        self.output_seen = True
        return True

    def flush(self) -> None:
        """Hands the output of this turn to the socket in one write."""
        self._flush_due = False
        out = self._out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._out_bytes = 0
        self.bytes_sent += len(data)
        self.counters.bytes_sent += len(data)
        if self.transport is not None:
            self.transport.write(data)

    # Flow control

    def enqueue(self, stream: Http2Stream, added_bytes: int) -> None:
        """`stream` has `added_bytes` more to send, or trailers after what it has."""
        self.unsent_bytes += added_bytes
        self._blocked[stream.stream_id] = stream
        self.pump()

    def forget_output(self, stream: Http2Stream) -> None:
        """The stream is over: what it had queued will not be sent."""
        if self._blocked.pop(stream.stream_id, None) is not None:
            self.unsent_bytes -= stream.queued_bytes

    def pump(self) -> None:
        """Sends what the windows admit, a frame per stream and round."""
        moved = True
        while moved and self._blocked and not self.write_paused:
            moved = False
            for stream in tuple(self._blocked.values()):
                if stream.stream_id not in self._blocked:
                    continue  # it ended with one before it
                room = min(self.send_window, stream.send_window, self.frame_bytes_max)
                if stream.queued_bytes:
                    if room <= 0:
                        continue
                    payload = stream.take(room)
                    self.send_window -= len(payload)
                    stream.send_window -= len(payload)
                    self.unsent_bytes -= len(payload)
                    self.output_seen = True
                    self.emit(frames.frame(frames.DATA, 0, stream.stream_id, payload))
                    moved = True
                if not stream.queued_bytes:
                    self._blocked.pop(stream.stream_id, None)
                    stream.drained()
                if self._out_bytes > self.limits.flush_bytes:
                    self.flush()
                    if self.write_paused:
                        return

    def change_initial_window(self, streams: dict[int, Http2Stream], size: int) -> bool:
        """SETTINGS_INITIAL_WINDOW_SIZE moves every open stream's window (RFC 9113 §6.9.2)."""
        delta = size - self.initial_window
        self.initial_window = size
        for stream in streams.values():
            stream.send_window += delta
            if stream.send_window > frames.WINDOW_BYTES_MAX:
                return False
        self.pump()
        return True

    def change_header_table(self, size: int) -> None:
        """We insert nothing, but a lowered maximum must be acknowledged in the next block."""
        if size < self._encoder_table_bytes:
            self._encoder_table_bytes = 0
            self._table_update_due = True
            self._fast = False

    # Socket backpressure

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        self.pump()
