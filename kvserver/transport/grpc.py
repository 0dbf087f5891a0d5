"""gRPC over HTTP/2 as pure functions: deadlines, message framing, compression."""

from __future__ import annotations

import zlib

from kvserver.transport.errors import INTERNAL, RESOURCE_EXHAUSTED, RpcError

PREFIX_BYTES = 5
MALFORMED_TIMEOUT = -1.0
"""What `parse_timeout` gives for text that is no timeout."""
TIMEOUT_SECONDS_MAX = 1e9
ENCODINGS = (b"identity", b"gzip", b"deflate")

_UNIT_SECONDS = {72: 3600.0, 77: 60.0, 83: 1.0, 109: 1e-3, 117: 1e-6, 110: 1e-9}  # H M S m u n
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


def parse_timeout(value: bytes) -> float:
    """Seconds of a `grpc-timeout`: at most eight digits and one unit."""
    digits = value[:-1]
    if not digits.isdigit() or len(digits) > 8:
        return MALFORMED_TIMEOUT
    unit = _UNIT_SECONDS.get(value[-1])
    if unit is None:
        return MALFORMED_TIMEOUT
    return min(int(digits) * unit, TIMEOUT_SECONDS_MAX)


def message(body: bytes) -> bytes:
    return b"\x00" + len(body).to_bytes(4, "big") + body


def too_large(size: int, size_max: int) -> RpcError:
    return RpcError(
        RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {size_max})"
    )


def decompress(data: bytes, encoding: bytes, size_max: int) -> bytes:
    """The message behind a set compressed flag; never more than `size_max` bytes are produced."""
    window_bits = _WINDOW_BITS.get(encoding)
    if window_bits is None:
        raise RpcError(INTERNAL, "grpc: compressed flag set with identity or empty encoding")
    decoder = zlib.decompressobj(window_bits)
    try:
        body = decoder.decompress(data, size_max + 1)
    except zlib.error as error:
        raise RpcError(INTERNAL, f"grpc: failed to decompress the message: {error}") from error
    if len(body) > size_max:
        raise too_large(len(body), size_max)
    if not decoder.eof or decoder.unused_data:
        raise RpcError(INTERNAL, "grpc: failed to decompress the message: not one whole stream")
    return body


class MessageReader:
    """Cuts the DATA of one stream into messages, each checked before it is gathered.

    Bytes are held only up to the end of the message they belong to, and that is at most
    `size_max` long, so a reader's memory is bounded by it and by one frame.
    """

    __slots__ = ("_buffer", "_encoding", "_need", "_size_max")

    def __init__(self, encoding: bytes, size_max: int) -> None:
        self._buffer = bytearray()
        self._encoding = encoding
        self._size_max = size_max
        self._need = PREFIX_BYTES

    @property
    def held_bytes(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Messages completed by `data`. Raises RpcError; the reader is of no use after that."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._need:
            return []
        messages = []
        position = 0
        while True:
            available = len(buffer) - position
            if available < PREFIX_BYTES:
                self._need = PREFIX_BYTES
                break
            size = int.from_bytes(buffer[position + 1 : position + 5], "big")
            if size > self._size_max:
                raise too_large(size, self._size_max)
            if buffer[position] > 1:
                raise RpcError(INTERNAL, f"grpc: unexpected payload format {buffer[position]}")
            if available < PREFIX_BYTES + size:
                self._need = PREFIX_BYTES + size
                break
            body = bytes(buffer[position + PREFIX_BYTES : position + PREFIX_BYTES + size])
            if buffer[position]:
                body = decompress(body, self._encoding, self._size_max)
            messages.append(body)
            position += PREFIX_BYTES + size
        del buffer[:position]
        return messages
