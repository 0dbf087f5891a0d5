"""HTTP/2 requests encoded ahead of time, so that driving a server costs next to nothing.

A connection's first call carries its headers literally and adds them to the HPACK dynamic table;
all later calls repeat one short fully indexed block, as every gRPC client does. With a deadline
the `grpc-timeout` value differs on each call, so each block is its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, repeat

from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME = struct.Struct(">HBBBI")
"""Length (high 16, low 8 bits), type, flags, stream id."""
MESSAGE = struct.Struct(">BI")
"""gRPC: compressed flag, length."""

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
WINDOW_MAX = 2**31 - 1
WINDOW_DEFAULT = 65535


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    length = len(payload)
    return FRAME.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def client_opening() -> bytes:
    """Preface, settings and the largest receive window: the generator never throttles a server."""
    settings = struct.pack(">HIHI", 0x2, 0, 0x4, WINDOW_MAX)
    return (
        PREFACE
        + frame(SETTINGS, 0, 0, settings)
        + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_MAX - WINDOW_DEFAULT))
    )


def headers_of(path: str, authority: str, token: str = "") -> list[tuple[str, str]]:
    """With `token`, as a client that has signed in sends them."""
    signed_in = [("token", token)] if token else []
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("user-agent", "keydeck-bench/1"),
        ("te", "trailers"),
        *signed_in,
    ]


def header_blocks(path: str, authority: str, token: str = "") -> Iterator[bytes]:
    """Blocks of successive calls without deadline: one literal, then the same one for ever."""
    encoder = Encoder()
    headers = headers_of(path, authority, token)
    first, later = encoder.encode(headers), encoder.encode(headers)
    assert encoder.encode(headers) == later
    return chain([first], repeat(later))


def deadline_blocks(path: str, authority: str, token: str = "") -> Iterator[bytes]:
    """Blocks of successive calls with a deadline of about five seconds, fresh on every call."""
    encoder = Encoder()
    headers = headers_of(path, authority, token)
    timeout = 4_999_999
    while True:
        # A Go client sends the microseconds that are left: hardly any two calls share a value.
        yield encoder.encode([*headers, ("grpc-timeout", f"{timeout}u")])
        timeout = timeout - 7 if timeout > 4_000_000 else 4_999_999


class Script:
    """The calls of one connection, encoded: `data[offsets[i]:offsets[j]]` are calls i..j-1."""

    __slots__ = ("body_bytes", "count", "data", "offsets")

    def __init__(
        self, blocks: Iterator[bytes], bodies: Sequence[bytes], first_stream_id: int
    ) -> None:
        parts = list(_calls(blocks, bodies, first_stream_id))
        self.count = len(parts)
        self.offsets = [0, *accumulate(map(len, parts))]
        self.data = memoryview(b"".join(parts))
        self.body_bytes = max(map(len, bodies), default=0) + MESSAGE.size


def _calls(blocks: Iterator[bytes], bodies: Iterable[bytes], stream_id: int) -> Iterator[bytes]:
    pack, pack_message = FRAME.pack, MESSAGE.pack
    # `bodies` first: zip must not swallow a header block for a body that is not there.
    for body, block in zip(bodies, blocks, strict=False):
        size = len(body) + 5
        yield b"".join(
            (
                pack(len(block) >> 8, len(block) & 0xFF, HEADERS, END_HEADERS, stream_id),
                block,
                pack(size >> 8, size & 0xFF, DATA, END_STREAM, stream_id),
                pack_message(0, len(body)),
                body,
            )
        )
        stream_id += 2


def initial_window(settings: bytes, before: int) -> int:
    """What a SETTINGS payload says of SETTINGS_INITIAL_WINDOW_SIZE, or what held before."""
    for identifier, value in struct.iter_unpack(">HI", settings):
        if identifier == 4:
            before = value
    return before
