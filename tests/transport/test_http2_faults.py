"""Every way a peer can break HTTP/2 has its answer (RFC 9113), and the server goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kvserver.transport import frames
from kvserver.transport.errors import (
    COMPRESSION_ERROR,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
)
from tests.transport.raw import REQUEST, RawClient, block, replaced
from tests.transport.running import Running, running

frame = frames.frame
HEADERS_1 = frame(frames.HEADERS, frames.END_HEADERS, 1, block())
ENDED_1 = frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, block())


def bidi(stream_id: int = 1, flags: int = 0) -> bytes:
    fields = block(*replaced(path="/pkg.Svc/Bidi"))
    return frame(frames.HEADERS, frames.END_HEADERS | flags, stream_id, fields)


@pytest.fixture
async def run() -> AsyncIterator[Running]:
    async with running() as run:
        yield run


CONNECTION_FAULTS = {
    "DATA on stream 0": (frame(frames.DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "DATA on an idle stream": (frame(frames.DATA, 0, 1, b"x"), PROTOCOL_ERROR),
    "DATA on an even stream": (frame(frames.DATA, 0, 2, b"x"), PROTOCOL_ERROR),
    "HEADERS on stream 0": (frame(frames.HEADERS, 4, 0, block()), PROTOCOL_ERROR),
    "HEADERS on an even stream": (frame(frames.HEADERS, 4, 2, block()), PROTOCOL_ERROR),
    "a smaller stream id": (
        frame(frames.HEADERS, 5, 5, block()) + frame(frames.HEADERS, 5, 3, block()),
        STREAM_CLOSED,
    ),
    "padding longer than DATA": (HEADERS_1 + frame(frames.DATA, 8, 1, b"\x05abc"), PROTOCOL_ERROR),
    "no padding length": (HEADERS_1 + frame(frames.DATA, 8, 1, b""), PROTOCOL_ERROR),
    "padding longer than HEADERS": (frame(frames.HEADERS, 0xC, 1, b"\xff\x82"), PROTOCOL_ERROR),
    "HEADERS shorter than its priority": (frame(frames.HEADERS, 0x24, 1, b"abc"), FRAME_SIZE_ERROR),
    "HEADERS depending on itself": (
        frame(frames.HEADERS, 0x24, 1, b"\x00\x00\x00\x01\x10" + block()),
        PROTOCOL_ERROR,
    ),
    "PRIORITY on stream 0": (frame(frames.PRIORITY, 0, 0, bytes(5)), PROTOCOL_ERROR),
    "PRIORITY of 4 bytes": (frame(frames.PRIORITY, 0, 1, bytes(4)), FRAME_SIZE_ERROR),
    "RST_STREAM on stream 0": (frame(frames.RST_STREAM, 0, 0, bytes(4)), PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (frame(frames.RST_STREAM, 0, 1, bytes(4)), PROTOCOL_ERROR),
    "RST_STREAM of 3 bytes": (
        HEADERS_1 + frame(frames.RST_STREAM, 0, 1, bytes(3)),
        FRAME_SIZE_ERROR,
    ),
    "SETTINGS on a stream": (frame(frames.SETTINGS, 0, 1), PROTOCOL_ERROR),
    "SETTINGS of 5 bytes": (frame(frames.SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    "SETTINGS ack with a payload": (frame(frames.SETTINGS, 1, 0, bytes(6)), FRAME_SIZE_ERROR),
    "ENABLE_PUSH of 2": (frames.settings([(2, 2)]), PROTOCOL_ERROR),
    "initial window of 2^31": (frames.settings([(4, 2**31)]), FLOW_CONTROL_ERROR),
    "frames of 16383": (frames.settings([(5, 16_383)]), PROTOCOL_ERROR),
    "frames of 2^24": (frames.settings([(5, 2**24)]), PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), PROTOCOL_ERROR),
    "PING on a stream": (frame(frames.PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "PING of 7 bytes": (frame(frames.PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (frame(frames.GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "GOAWAY of 7 bytes": (frame(frames.GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of 3 bytes": (frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of 0": (frames.window_update(0, 0), PROTOCOL_ERROR),
    "WINDOW_UPDATE on an idle stream": (frames.window_update(1, 1), PROTOCOL_ERROR),
    "connection window over 2^31": (frames.window_update(0, 2**31 - 1), FLOW_CONTROL_ERROR),
    "settings that overflow a stream window": (
        bidi() + frames.window_update(1, 2**31 - 1 - 65_535) + frames.settings([(4, 65_536)]),
        FLOW_CONTROL_ERROR,
    ),
    "a frame longer than 16384": (frame(frames.DATA, 0, 1, bytes(16_385)), FRAME_SIZE_ERROR),
    "CONTINUATION from nowhere": (frame(frames.CONTINUATION, 4, 1, block()), PROTOCOL_ERROR),
    "CONTINUATION of another stream": (
        frame(frames.HEADERS, 0, 1, block()) + frame(frames.CONTINUATION, 4, 3, b""),
        PROTOCOL_ERROR,
    ),
    "a header block interrupted": (
        frame(frames.HEADERS, 0, 1, block()) + frames.ping(bytes(8)),
        PROTOCOL_ERROR,
    ),
    "a header block interrupted by DATA": (
        frame(frames.HEADERS, 0, 1, block()) + frame(frames.DATA, 0, 1, b"x"),
        PROTOCOL_ERROR,
    ),
    "an index without an entry": (frame(frames.HEADERS, 4, 1, b"\xfe"), COMPRESSION_ERROR),
    "index 0": (frame(frames.HEADERS, 4, 1, b"\x80"), COMPRESSION_ERROR),
    "a string cut off": (frame(frames.HEADERS, 4, 1, b"\x00\x7fabc"), COMPRESSION_ERROR),
    "a block cut off": (frame(frames.HEADERS, 4, 1, b"\x00"), COMPRESSION_ERROR),
    "an endless integer": (frame(frames.HEADERS, 4, 1, b"\xff" * 12), COMPRESSION_ERROR),
    "bad Huffman": (frame(frames.HEADERS, 4, 1, b"\x00\x84\xff\xff\xff\xff"), COMPRESSION_ERROR),
    "a table larger than 4096": (frame(frames.HEADERS, 4, 1, b"\x3f\xe2\x1f"), COMPRESSION_ERROR),
    "a table update after a field": (frame(frames.HEADERS, 4, 1, b"\x83\x20"), COMPRESSION_ERROR),
}


@pytest.mark.parametrize(("data", "code"), CONNECTION_FAULTS.values(), ids=CONNECTION_FAULTS)
async def test_fault_of_the_connection(run: Running, data: bytes, code: int) -> None:
    client = await RawClient.connect(run.port)
    client.send(data)
    goaway = await client.first(frames.GOAWAY)
    assert goaway.error_code == code
    await client.until_closed()
    await client.close()


STREAM_FAULTS = {
    "DATA after the end": (bidi(flags=1) + frame(frames.DATA, 0, 1, b"x"), STREAM_CLOSED),
    "HEADERS after the end": (bidi(flags=1) + bidi(), STREAM_CLOSED),
    "trailers without the end": (bidi() + bidi(), PROTOCOL_ERROR),
    "WINDOW_UPDATE of 0": (bidi() + frames.window_update(1, 0), PROTOCOL_ERROR),
    "window over 2^31": (bidi() + frames.window_update(1, 2**31 - 1), FLOW_CONTROL_ERROR),
    "an upper-case name": (
        frame(frames.HEADERS, 4, 1, block(*REQUEST, ("Token", "x"))),
        PROTOCOL_ERROR,
    ),
    "a connection field": (
        frame(frames.HEADERS, 4, 1, block(*REQUEST, ("connection", "close"))),
        PROTOCOL_ERROR,
    ),
    "te of something else": (
        frame(frames.HEADERS, 4, 1, block(*replaced(te="gzip"))),
        PROTOCOL_ERROR,
    ),
    "no path": (frame(frames.HEADERS, 4, 1, block(*REQUEST[:2], *REQUEST[3:])), PROTOCOL_ERROR),
    "an empty path": (frame(frames.HEADERS, 4, 1, block(*replaced(path=""))), PROTOCOL_ERROR),
    "no method": (frame(frames.HEADERS, 4, 1, block(*REQUEST[1:])), PROTOCOL_ERROR),
    "two paths": (
        frame(frames.HEADERS, 4, 1, block(REQUEST[2], *REQUEST)),
        PROTOCOL_ERROR,
    ),
    "a pseudo field at the end": (
        frame(frames.HEADERS, 4, 1, block(*REQUEST[1:], REQUEST[0])),
        PROTOCOL_ERROR,
    ),
    "an unknown pseudo field": (
        frame(frames.HEADERS, 4, 1, block((":status", "200"), *REQUEST)),
        PROTOCOL_ERROR,
    ),
    "a line break in a value": (
        frame(frames.HEADERS, 4, 1, block(*REQUEST, ("token", "a\r\nb"))),
        PROTOCOL_ERROR,
    ),
    "content-length that is none": (
        frame(frames.HEADERS, 4, 1, block(*REQUEST, ("content-length", "-1"))),
        PROTOCOL_ERROR,
    ),
    "more than content-length": (
        frame(frames.HEADERS, 4, 1, block(*REQUEST, ("content-length", "2")))
        + frame(frames.DATA, 0, 1, b"abc"),
        PROTOCOL_ERROR,
    ),
    "less than content-length": (
        frame(frames.HEADERS, 4, 1, block(*REQUEST, ("content-length", "6")))
        + frame(frames.DATA, 1, 1, bytes(5)),
        PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize(("data", "code"), STREAM_FAULTS.values(), ids=STREAM_FAULTS)
async def test_fault_of_a_stream(run: Running, data: bytes, code: int) -> None:
    client = await RawClient.connect(run.port)
    client.send(data)
    assert (await client.first(frames.RST_STREAM, 1)).error_code == code
    # Only the stream is lost: the connection answers the next call.
    client.call(3, b"still here")
    assert (await client.answered(3))["grpc-status"] == "0"
    await client.close()


async def test_the_first_frame_has_to_be_settings(run: Running) -> None:
    client = await RawClient.connect(run.port, frames.PREFACE + frames.ping(bytes(8)))
    assert (await client.first(frames.GOAWAY)).error_code == PROTOCOL_ERROR
    await client.close()


async def test_ignored_frames(run: Running) -> None:
    """Unknown types, unknown settings, PRIORITY and GOAWAY change nothing (RFC 9113 §5.5)."""
    client = await RawClient.connect(run.port)
    client.send(
        frame(0xBE, 0xFF, 0, b"whatever"),
        frame(0xBE, 0xFF, 7, b"whatever"),
        frames.settings([(0xABCD, 7), (3, 100)]),
        frame(frames.PRIORITY, 0, 9, bytes(5)),
        frames.goaway(0, 0),
    )
    client.call(1, b"x")
    assert (await client.answered(1))["grpc-status"] == "0"
    await client.close()


async def test_settings_and_ping_are_acknowledged(run: Running) -> None:
    client = await RawClient.connect(run.port)
    await client.first(frames.SETTINGS, 0, frames.ACK)
    client.send(frames.ping(b"12345678"))
    assert (await client.first(frames.PING, 0, frames.ACK)).payload == b"12345678"
    await client.close()


async def test_padding_priority_continuation_and_the_reserved_bit(run: Running) -> None:
    fields = block()
    padded = b"\x03" + bytes(4) + b"\x10" + fields[:10] + bytes(3)
    client = await RawClient.connect(run.port)
    client.send(
        frame(frames.HEADERS, frames.PADDED | frames.PRIORITY_FLAG, 1 | 1 << 31, padded),
        frame(frames.CONTINUATION, 0, 1, fields[10:80]),
        frame(frames.CONTINUATION, frames.END_HEADERS, 1, fields[80:]),
        frame(frames.DATA, frames.PADDED, 1 | 1 << 31, b"\x02\x00\x00\x00" + bytes(2)),
        frame(frames.DATA, frames.END_STREAM | frames.PADDED, 1, b"\x01\x00\x02hi\x00"),
    )
    assert (await client.answered(1))["grpc-status"] == "0"
    assert (await client.first(frames.DATA, 1)).payload == b"\x00\x00\x00\x00\x02hi"
    await client.close()


async def test_request_trailers_end_the_request(run: Running) -> None:
    client = await RawClient.connect(run.port)
    client.send(
        HEADERS_1,
        frame(frames.DATA, 0, 1, b"\x00\x00\x00\x00\x01x"),
        frame(frames.HEADERS, 5, 1, block(("some", "trailer"))),
    )
    assert (await client.answered(1))["grpc-status"] == "0"
    await client.close()


async def test_a_lowered_header_table_is_acknowledged_once(run: Running) -> None:
    """RFC 7541 §4.2: the next block begins with a table size update."""
    client = await RawClient.connect(run.port)
    client.send(frames.settings([(frames.SETTING_HEADER_TABLE_SIZE, 0)]))
    client.call(1, b"x")
    client.call(3, b"x")
    await client.answered(3)
    blocks = [f.payload for f in client.frames if f.kind == frames.HEADERS]
    assert [data[0] == 0x20 for data in blocks] == [True, False, False, False]
    await client.close()


async def test_dribbled_bytes(run: Running) -> None:
    """Frames cut anywhere are put together again."""
    client = await RawClient.connect(run.port, hello=b"")
    message = b"\x00\x00\x00\x00\x05hello"
    data = frames.PREFACE + frames.settings([]) + HEADERS_1 + frame(frames.DATA, 1, 1, message)
    for position in range(len(data)):
        client.send(data[position : position + 1])
        await client.writer.drain()
    assert (await client.answered(1))["grpc-status"] == "0"
    assert (await client.first(frames.DATA, 1)).payload == message
    await client.close()


async def test_a_stream_window_must_be_kept(run: Running) -> None:
    """A handler that reads nothing: the peer has one window, and not a byte more."""
    client = await RawClient.connect(run.port)
    fields = block(*replaced(path="/pkg.Svc/Silent"))
    client.send(frame(frames.HEADERS, frames.END_HEADERS, 1, fields))
    one = b"\x00" + (16_379).to_bytes(4, "big") + bytes(16_379)
    for _ in range(1024 * 1024 // 16_384 + 1):
        client.send(frame(frames.DATA, 0, 1, one))
    assert (await client.first(frames.RST_STREAM, 1)).error_code == FLOW_CONTROL_ERROR
    await client.close()
