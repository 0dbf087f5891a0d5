"""One HTTP/2 connection: frames in, streams, frames out (RFC 9113).

`data_received` parses every whole frame of what has come and hands requests to their handlers in
the same turn; the two frames of the common unary call (HEADERS whose block is known, one DATA
with the whole message) are handled inline. Everything rarer is in `control.py`, everything about
sending in `output.py`.

Invariants: frames are handled in order; a frame is looked at only when it is whole; between the
frames of a header block nothing else is accepted; while the socket has no room for our output, no
input is parsed. Every fault of the peer becomes RST_STREAM or GOAWAY, never an exception.
Owner: the loop.
"""

from __future__ import annotations

import asyncio

from kvserver.transport import frames
from kvserver.transport.call import Call
from kvserver.transport.control import Control
from kvserver.transport.endpoint import Endpoint
from kvserver.transport.errors import (
    FRAME_SIZE_ERROR,
    INTERNAL_ERROR,
    PROTOCOL_ERROR,
    ConnectionFault,
)

_unpack_header = frames.FRAME_HEADER.unpack_from
_from_bytes = int.from_bytes
_ID = frames.STREAM_ID_MAX  # without the reserved bit


class Http2Connection(Control, asyncio.Protocol):
    def __init__(self, endpoint: Endpoint, transport: asyncio.Transport) -> None:
        super().__init__(endpoint, transport)
        self._held = b""
        self._parsing = False
        self._settings_came = False

    # Called by the event loop

    def data_received(self, data: bytes) -> None:
        self.counters.bytes_received += len(data)
        self.keepalive.heard()
        if self._held:
            data = self._held + data
        if self.write_paused:
            self._held = data
            return
        if not self._settings_came and len(data) > 3:
            if data[3] != frames.SETTINGS:
                self.fault(PROTOCOL_ERROR, "the first frame is not SETTINGS")
                return
            self._settings_came = True
        self._parse(data)

    def eof_received(self) -> bool | None:
        return None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.write_paused or self.transport is None:
            return
        self.transport.resume_reading()
        if self._held and not self._parsing:
            self._parse(self._held)

    def connection_lost(self, error: Exception | None) -> None:
        self._held = b""
        self.lost()

    # Parsing

    def _parse(self, data: bytes) -> None:
        # Output of this turn leaves at its end, without a trip through the loop.
        flush_was_due, self._flush_due = self._flush_due, True
        self._parsing = True
        try:
            consumed = self._frames(data)
        except ConnectionFault as fault:
            self.fault(fault.code, fault.reason)
            consumed = len(data)
        except Exception as error:
            fields = {"peer": self.peer.address, "error": repr(error), "exc": error}
            self.endpoint.log("error", "connection failed", fields)
            self.fault(INTERNAL_ERROR, "internal error")
            consumed = len(data)
        self._parsing = False
        self._held = data[consumed:] if not self.closing else b""
        if flush_was_due:
            return
        self.flush()

    def _frames(self, data: bytes) -> int:
        """Handles the whole frames at the start of `data`; how many bytes that was."""
        position = 0
        size = len(data)
        streams = self.streams
        while size - position >= 9:
            high, low, kind, flags, stream_id = _unpack_header(data, position)
            length = (high << 8) | low
            start = position + 9
            end = start + length
            if length > frames.FRAME_BYTES_DEFAULT:
                raise ConnectionFault(FRAME_SIZE_ERROR, "frame too long")
            if end > size:
                break
            position = end
            if self.open_block is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(PROTOCOL_ERROR, "header block interrupted")
            if kind == 0:
                stream = streams.get(stream_id)
                # The common DATA: all of one uncompressed message, and the end of the request.
                if (
                    flags == 1
                    and type(stream) is Call
                    and stream._reader is None
                    and length >= 5
                    and not data[start]
                    and _from_bytes(data[start + 1 : start + 5], "big") == length - 5
                    and length - 5 <= stream.method.request_bytes_max
                    and stream.head.content_length in (None, length)
                    and not stream.ended
                ):
                    self.receive_window -= length
                    if self.receive_window < self.receive_window_low:
                        self.restore_receive_window()
                    stream.ended = True
                    stream.dispatch(data[start + 5 : end])
                    if self._out_bytes > self.flush_bytes:
                        self.flush()
                    if self.write_paused:
                        break
                else:
                    self.on_data(stream_id & _ID, flags, data[start:end])
            elif kind == 1 and flags & 0x2C == 4:
                self.on_header_block(stream_id & _ID, flags, data[start:end])
            else:
                self.on_frame(kind, flags, stream_id & _ID, data[start:end])
            if self.closing:
                break
        return position
