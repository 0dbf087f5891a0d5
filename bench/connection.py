"""One HTTP/2 client connection of the load generator.

It sends scripts of pre-encoded calls and counts replies by walking frames. Every reply's trailers
are checked: a block is decoded once, and equal blocks are believed as long as the HPACK dynamic
table has not changed since (a block that adds no field to the table cannot change it). Anything but
`grpc-status: 0` raises: a benchmark of errors is worthless.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from typing import NamedTuple

from hpack import Decoder

from bench.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_DEFAULT,
    WINDOW_UPDATE,
    Script,
    client_opening,
    frame,
)

RECEIVE_BYTES = 1 << 18
RENEW_BYTES = 1 << 30
"""Received bytes after which the connection's window is opened again."""


class ReplyFailed(Exception):
    """The server answered a call with an error, or broke the connection."""


class Address(NamedTuple):
    """Where a server listens; `tls` where it has to be spoken, `token` where one is asked for."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    token: str = ""


class Connection:
    """Owned by the generator's only thread."""

    __slots__ = (
        "_decoder",
        "_known_headers",
        "_known_trailers",
        "_rest",
        "_secured",
        "_unrenewed",
        "data_bytes",
        "next_stream_id",
        "outstanding",
        "script",
        "sent",
        "socket",
        "window",
    )

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection((host, port), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._secured = tls.wrap_socket(plain, server_hostname=host) if tls else None
        self.socket = self._secured or plain
        self._decoder = Decoder()
        self._known_headers: set[bytes] = set()
        self._known_trailers: set[bytes] = set()
        self._rest = b""
        self._unrenewed = 0
        self.data_bytes = 0
        self.window = WINDOW_DEFAULT
        self.outstanding = 0
        self.next_stream_id = 1
        self.script: Script | None = None
        self.sent = 0
        self.socket.sendall(client_opening())

    def close(self) -> None:
        self.socket.close()

    def load(self, script: Script) -> None:
        """Make the connection ready to send the calls of `script`."""
        assert self.outstanding == 0
        self.script = script
        self.sent = 0
        self.next_stream_id += 2 * script.count

    def send_calls(self, wanted: int) -> int:
        """Send up to `wanted` further calls; fewer at the script's end or without window."""
        script = self.script
        assert script is not None
        count = min(wanted, script.count - self.sent, self.window // script.body_bytes)
        if count <= 0:
            return 0
        start = self.sent
        self.sent = start + count
        self.outstanding += count
        self.window -= count * script.body_bytes
        self.send_raw(script.data[script.offsets[start] : script.offsets[start + count]])
        return count

    def send_raw(self, data: bytes | memoryview) -> None:
        """Send everything, waiting for room when the socket's buffer is full."""
        while data:
            try:
                sent = self.socket.send(data)
            except (BlockingIOError, ssl.SSLWantWriteError):
                select.select((), (self.socket,), (), 30)
                continue
            if sent == len(data):
                return
            data = memoryview(data)[sent:]

    def receive(self) -> int:
        """Read what is there; returns how many calls that finished."""
        data = self.read()
        if not data:
            return 0
        if self._rest:
            data = self._rest + data
        # The walk below is the generator's hot loop: one unpack and two tests per frame.
        unpack = FRAME.unpack_from
        trailers, headers = self._known_trailers, self._known_headers
        position, size, finished, body = 0, len(data), 0, 0
        while size - position >= 9:
            high, low, kind, flags, stream_id = unpack(data, position)
            length = high << 8 | low
            end = position + 9 + length
            if end > size:
                break
            if kind == HEADERS:
                block = data[position + 9 : end]
                if flags & END_STREAM:
                    finished += 1
                    if block not in trailers:
                        self._check_trailers(block, flags)
                elif block not in headers:
                    self._check_headers(block, flags)
            elif kind == DATA:
                body += length
            else:
                self._control(kind, flags, stream_id, data[position + 9 : end])
            position = end
        self._rest = data[position:]
        self.outstanding -= finished
        self.data_bytes += body
        self._unrenewed += body
        if self._unrenewed > RENEW_BYTES:
            self.send_raw(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unrenewed)))
            self._unrenewed = 0
        return finished

    def read(self) -> bytes:
        """What is there; nothing if all of it was TLS's own."""
        secured = self._secured
        try:
            data = self.socket.recv(RECEIVE_BYTES)
            # A record that OpenSSL holds already is not announced by the socket again.
            while secured is not None and secured.pending():
                data += secured.recv(RECEIVE_BYTES)
        except ssl.SSLWantReadError:
            return b""
        if not data:
            raise ReplyFailed("connection closed by the server")
        return data

    def _check_headers(self, block: bytes, flags: int) -> None:
        fields = self._decode(block, flags)
        if fields.get(":status") != "200":
            raise ReplyFailed(f"HTTP status {fields.get(':status')}")
        if _leaves_table(block):
            self._known_headers.add(block)

    def _check_trailers(self, block: bytes, flags: int) -> None:
        fields = self._decode(block, flags)
        if fields.get("grpc-status") != "0":
            raise ReplyFailed(
                f"grpc-status {fields.get('grpc-status')}: {fields.get('grpc-message')}"
            )
        if _leaves_table(block):
            self._known_trailers.add(block)

    def _decode(self, block: bytes, flags: int) -> dict[str, str]:
        if flags & 0x28 or not flags & END_HEADERS:
            raise ReplyFailed("padded, prioritised or continued header frames are not expected")
        if not _leaves_table(block):
            self._known_headers.clear()
            self._known_trailers.clear()
        return {str(name): str(value) for name, value in self._decoder.decode(block)}

    def _control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            if stream_id == 0:
                self.window += int.from_bytes(payload, "big")
        elif kind == SETTINGS:
            if not flags & ACK:
                self.send_raw(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING:
            if not flags & ACK:
                self.send_raw(frame(PING, ACK, 0, payload))
        elif kind in (RST_STREAM, GOAWAY):
            raise ReplyFailed(f"frame type {kind} on stream {stream_id}: {payload[:100]!r}")


def _leaves_table(block: bytes) -> bool:
    """True when no field of the block touches the HPACK dynamic table (RFC 7541 §6)."""
    position = 0
    while position < len(block):
        first = block[position]
        if first & 0x80:
            _, position = _integer(block, position, 7)
        elif first & 0x60:
            # A literal that is added to the table, or a change of the table's size.
            return False
        else:
            name, position = _integer(block, position, 4)
            for _ in range(1 if name else 2):
                length, position = _integer(block, position, 7)
                position += length
    return True


def _integer(block: bytes, position: int, prefix_bits: int) -> tuple[int, int]:
    """A prefixed integer (RFC 7541 §5.1) and the position after it."""
    limit = (1 << prefix_bits) - 1
    value = block[position] & limit
    position += 1
    if value < limit:
        return value, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position
