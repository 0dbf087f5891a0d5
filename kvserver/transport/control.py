"""Control frames of a connection, and how it begins and ends (RFC 9113 §6)."""

from __future__ import annotations

import asyncio

from kvserver.transport import frames
from kvserver.transport.endpoint import Endpoint
from kvserver.transport.errors import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    ConnectionFault,
)
from kvserver.transport.keepalive import DRAIN_PAYLOAD, PING_PAYLOAD, Keepalive, PingPolicy
from kvserver.transport.stream_layer import StreamLayer

LINGER_SECONDS = 5.0
"""How long a closed connection may take to get its last output out."""


class Control(StreamLayer):
    def __init__(self, endpoint: Endpoint, transport: asyncio.Transport) -> None:
        super().__init__(endpoint, transport)
        limits = endpoint.limits
        self._linger: asyncio.TimerHandle | None = None
        self._pings = PingPolicy(limits.ping_interval_seconds_min, limits.ping_without_stream)
        self.keepalive = Keepalive(
            endpoint.loop,
            limits.keepalive_seconds,
            limits.keepalive_timeout_seconds,
            ping=lambda: self.emit(frames.ping(PING_PAYLOAD)),
            lost=self.abort,
        )

    @property
    def open_streams(self) -> int:
        return len(self.streams)

    def start(self) -> None:
        """The preface has been read: our settings and the windows we grant."""
        limits = self.limits
        self.emit(
            frames.settings(
                [
                    (frames.SETTING_MAX_CONCURRENT_STREAMS, limits.concurrent_streams_max),
                    (frames.SETTING_INITIAL_WINDOW_SIZE, limits.stream_window_bytes),
                    (frames.SETTING_MAX_HEADER_LIST_SIZE, limits.header_list_bytes_max),
                ]
            )
        )
        growth = limits.connection_window_bytes - frames.WINDOW_BYTES_DEFAULT
        if growth:
            self.emit(frames.window_update(0, growth))
        self.endpoint.opened(self)

    # Control frames

    def on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.HEADERS:
            self.on_headers(stream_id, flags, payload)
        elif kind == frames.CONTINUATION:
            self.on_continuation(stream_id, flags, payload)
        elif kind in _CONTROL:
            _CONTROL[kind](self, flags, stream_id, payload)
        else:
            self.nuisance()  # unknown types are ignored (RFC 9113 §5.5)

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        self.nuisance()
        if stream_id == 0:
            raise ConnectionFault(PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise ConnectionFault(FRAME_SIZE_ERROR, "PRIORITY of a wrong size")

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        if stream_id > self.last_stream_id or not stream_id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        self.nuisance()
        self._half_open.pop(stream_id, None)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._drop(stream)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS ack with a payload")
            return
        if len(payload) % 6:
            raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        # A new initial window walks over all streams, so it weighs what they are.
        self.nuisance(1 + len(self.streams) // 100)
        # The peer counts with a new window from our acknowledgement on: it has to go first.
        self.emit(frames.SETTINGS_ACK)
        for key, value in dict(frames.parse_settings(payload)).items():
            self._apply_setting(key, value)

    def _apply_setting(self, key: int, value: int) -> None:
        if key == frames.SETTING_HEADER_TABLE_SIZE:
            self.change_header_table(value)
        elif key == frames.SETTING_INITIAL_WINDOW_SIZE:
            if value > frames.WINDOW_BYTES_MAX or not self.change_initial_window(
                self.streams, value
            ):
                raise ConnectionFault(FLOW_CONTROL_ERROR, "initial window too large")
        elif key == frames.SETTING_MAX_FRAME_SIZE:
            if not frames.FRAME_BYTES_DEFAULT <= value <= frames.FRAME_BYTES_MAX:
                raise ConnectionFault(PROTOCOL_ERROR, "max frame size out of range")
            self.frame_bytes_max = min(value, self.flush_bytes)
        elif key == frames.SETTING_ENABLE_PUSH and value > 1:
            raise ConnectionFault(PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFault(PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(FRAME_SIZE_ERROR, "PING of a wrong size")
        if flags & frames.ACK:
            if payload == DRAIN_PAYLOAD and self.draining:
                self._stop_accepting()
            return
        self.nuisance()
        self.emit(frames.ping(payload, ack=True))
        seen, self.output_seen = self.output_seen, False
        if self._pings.too_many(self.loop.time(), seen, bool(self.streams)):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too_many_pings")

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(FRAME_SIZE_ERROR, "GOAWAY of a wrong size")
        self.nuisance()

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        self.nuisance()
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if stream_id == 0:
            self.send_window += increment
            if not increment:
                raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            if self.send_window > frames.WINDOW_BYTES_MAX:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "connection window too large")
            if self._blocked:
                self.pump()
            return
        if stream_id > self.last_stream_id or not stream_id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        stream.send_window += increment
        if not increment:
            self.reset(stream, PROTOCOL_ERROR)
        elif stream.send_window > frames.WINDOW_BYTES_MAX:
            self.reset(stream, FLOW_CONTROL_ERROR)
        elif self._blocked:
            self.pump()

    # The end of the connection

    def fault(self, code: int, reason: str) -> None:
        """The peer is told why, and the connection closes."""
        if self.closing:
            return
        fields = {"peer": self.peer.address, "code": code, "error": reason}
        self.endpoint.log("debug", "closed a client connection", fields)
        self.emit(frames.goaway(self.last_stream_id, code, reason.encode()))
        self._close()

    def begin_drain(self) -> None:
        """Announces the end, then, a round trip later, refuses streams the peer had not sent."""
        if self.draining or self.closing:
            return
        self.draining = True
        self.emit(frames.goaway(frames.STREAM_ID_MAX, NO_ERROR))
        self.emit(frames.ping(DRAIN_PAYLOAD))

    def abort(self) -> None:
        """Ends the connection now; open calls are cancelled."""
        if not self.closing:
            self.emit(frames.goaway(self.last_stream_id, NO_ERROR))
            self._close()
        if self.transport is not None:
            self.transport.abort()

    def lost(self) -> None:
        self.closing = True
        self.transport = None
        self.keepalive.close()
        if self._linger is not None:
            self._linger.cancel()
        self._cancel_streams()
        self.endpoint.lost(self)

    def _stop_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            self.emit(frames.goaway(self.last_stream_id, NO_ERROR))
            if not self.streams:
                self.became_empty()

    def became_empty(self) -> None:
        if self.draining and not self._accepting:
            self._close()

    def _close(self) -> None:
        self.closing = True
        self.keepalive.close()
        self.flush()
        self._cancel_streams()
        if self.transport is not None:
            self.transport.close()
            # A peer that reads nothing would keep the socket and its buffer for ever.
            self._linger = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _cancel_streams(self) -> None:
        for stream in tuple(self.streams.values()):
            self.forget_output(stream)
            stream.closed()
        self.streams.clear()


_CONTROL = {
    frames.PRIORITY: Control._on_priority,
    frames.RST_STREAM: Control._on_rst_stream,
    frames.SETTINGS: Control._on_settings,
    frames.PUSH_PROMISE: Control._on_push_promise,
    frames.PING: Control._on_ping,
    frames.GOAWAY: Control._on_goaway,
    frames.WINDOW_UPDATE: Control._on_window_update,
}
