"""Unary gRPC calls one after the other on a plain socket, a fifth of what a library costs: a
comparison makes a hundred thousand of them, and driving the members took half of its time.

Not for large requests, for TLS or for metadata; those go through grpcio (see `Driver.do_call`).
"""

from __future__ import annotations

import socket
import struct
from urllib.parse import unquote

from hpack import Decoder, Encoder, NeverIndexedHeaderTuple

from bench.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    GOAWAY,
    HEADERS,
    MESSAGE,
    PING,
    PREFACE,
    SETTINGS,
    WINDOW_DEFAULT,
    WINDOW_MAX,
    WINDOW_UPDATE,
    frame,
    headers_of,
)

BODY_BYTES_MAX = 16_000
"""Of a request: one frame, and well within a stream's first window."""
SETTING_TABLE_SIZE, SETTING_PUSH, SETTING_WINDOW = 1, 2, 4
OPENING = (
    PREFACE
    # Without a table of header fields equal blocks mean equal fields: each is decoded once.
    + frame(
        SETTINGS,
        0,
        0,
        struct.pack(">HIHIHI", SETTING_TABLE_SIZE, 0, SETTING_PUSH, 0, SETTING_WINDOW, WINDOW_MAX),
    )
    + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_MAX - WINDOW_DEFAULT))
)
Answer = tuple[int, str, bytes]
"""gRPC's code, the text of a refusal, the reply."""


class UnaryConnection:
    """Raises OSError when the connection is lost or nothing comes for `seconds_max`."""

    def __init__(self, endpoint: str, seconds_max: float) -> None:
        host, _, port = endpoint.rpartition(":")
        self._authority = endpoint
        self._socket = socket.create_connection((host, int(port)), timeout=seconds_max)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(OPENING)
        self._decoder = Decoder()
        self._decoded: dict[bytes, dict[str, str]] = {}
        self._blocks: dict[str, bytes] = {}
        self._stream_id = -1
        self._window = WINDOW_DEFAULT
        self._received = bytearray()

    def close(self) -> None:
        self._socket.close()

    def call(self, path: str, body: bytes) -> Answer:
        assert len(body) <= BODY_BYTES_MAX
        while self._window < len(body) + MESSAGE.size:
            self._control(*self._next_frame())
        self._window -= len(body) + MESSAGE.size
        self._stream_id += 2
        request = MESSAGE.pack(0, len(body)) + body
        self._socket.sendall(
            frame(HEADERS, END_HEADERS, self._stream_id, self._block(path))
            + frame(DATA, END_STREAM, self._stream_id, request)
        )
        return self._answer()

    def _block(self, path: str) -> bytes:
        block = self._blocks.get(path)
        if block is None:
            fields = headers_of(path, self._authority)
            block = Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields])
            self._blocks[path] = block
        return block

    def _answer(self) -> Answer:
        message = b""
        while True:
            kind, flags, stream_id, payload = self._next_frame()
            if stream_id != self._stream_id or kind == WINDOW_UPDATE:
                self._control(kind, flags, stream_id, payload)
            elif kind == DATA:
                message += payload
            elif kind == HEADERS:
                assert flags & END_HEADERS and not flags & 0x28, "a plain block of header fields"
                fields = self._decode(payload)
                if flags & END_STREAM:
                    code = int(fields["grpc-status"])
                    return code, unquote(fields.get("grpc-message", "")), message[MESSAGE.size :]
            else:
                raise ConnectionError(f"a frame of kind {kind} in the place of an answer")

    def _decode(self, block: bytes) -> dict[str, str]:
        fields = self._decoded.get(block)
        if fields is None:
            fields = self._decoded[block] = dict(self._decoder.decode(block))
        return fields

    def _control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == PING and not flags & ACK:
            self._socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            self._socket.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == WINDOW_UPDATE and stream_id == 0:
            self._window += int.from_bytes(payload)
        elif kind == GOAWAY:
            raise ConnectionError(f"the server ended it: {payload!r}")
        # A stream that is over may still be reset: Go's server does so when its answer was complete
        # before it had read the end of the request.

    def _next_frame(self) -> tuple[int, int, int, bytes]:
        received = self._received
        self._fill(FRAME.size)
        high, low, kind, flags, stream_id = FRAME.unpack_from(received)
        end = FRAME.size + (high << 8 | low)
        self._fill(end)
        payload = bytes(received[FRAME.size : end])
        del received[:end]
        return kind, flags, stream_id, payload

    def _fill(self, size: int) -> None:
        while len(self._received) < size:
            data = self._socket.recv(1 << 18)
            if not data:
                raise ConnectionError("closed by the server")
            self._received += data
