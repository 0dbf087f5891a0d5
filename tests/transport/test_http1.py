"""HTTP/1.x on the gRPC port (spec/wire-api.md §3.4)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable

import pytest

from kvserver.transport import TransportLimits
from tests.transport.raw import RawClient, slow_socket
from tests.transport.running import WAIT_SECONDS, Running, running


@pytest.fixture
async def run() -> AsyncIterator[Running]:
    async with running(TransportLimits(http_body_bytes_max=100_000)) as run:
        yield run


async def exchange(port: int, *sent: bytes, eof: bool = False) -> bytes:
    """Sends everything, then reads to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for data in sent:
        writer.write(data)
        await writer.drain()
    if eof:
        writer.write_eof()
    async with asyncio.timeout(WAIT_SECONDS):
        received = await reader.read()
    writer.close()
    return received


def get(path: str, *headers: str, method: str = "GET", close: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: h", *headers]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode()


def parsed(response: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


async def test_get(run: Running) -> None:
    status, headers, body = parsed(await exchange(run.port, get("/health?serializable=true")))
    assert (status, body) == (200, b"GET /health serializable=true 0")
    assert headers["content-type"] == "text/plain"
    assert headers["content-length"] == str(len(body))
    assert headers["connection"] == "close"
    assert headers["date"].endswith("gmt")


async def test_head_has_the_length_but_no_body(run: Running) -> None:
    status, headers, body = parsed(await exchange(run.port, get("/health", method="HEAD")))
    assert (status, body) == (200, b"")
    assert headers["content-length"] == str(len("HEAD /health  0"))


async def test_keep_alive_and_pipelining_in_order(run: Running) -> None:
    requests = [get(f"/{n}", close=False) for n in range(50)] + [get("/last")]
    received = await exchange(run.port, b"".join(requests))
    assert re.findall(rb"GET /(\w+)", received) == [b"%d" % n for n in range(50)] + [b"last"]


async def test_http10_closes(run: Running) -> None:
    status, headers, body = parsed(await exchange(run.port, b"GET /x HTTP/1.0\r\n\r\n"))
    assert (status, headers["connection"], body) == (200, "close", b"GET /x  0")


async def test_post_with_length_and_chunked(run: Running) -> None:
    fixed = get("/a", "Content-Length: 5", method="POST", close=False) + b"hello"
    chunked = get("/b", "Transfer-Encoding: chunked", method="POST")
    body = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    received = await exchange(run.port, fixed + chunked, body[:7], body[7:])
    assert b"POST /a  5" in received
    assert b"POST /b  7" in received


async def test_a_streamed_response(run: Running) -> None:
    status, headers, body = parsed(await exchange(run.port, get("/stream")))
    assert status == 200
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    assert body == b"".join(b"8\r\npiece %d\n\r\n" % n for n in range(3)) + b"0\r\n\r\n"


async def test_pieces_may_be_written_past_the_iterator(run: Running) -> None:
    """In the order they were given, and only while the response is under way."""
    writers: list[Callable[[bytes], bool]] = []

    async def pieces() -> AsyncIterator[bytes]:
        (write,) = writers
        assert write(b"first")
        yield b"second"
        assert write(b"third")

    run.service.on_streaming = writers.append
    run.service.pieces = pieces  # type: ignore[method-assign]
    body = parsed(await exchange(run.port, get("/stream")))[2]
    assert body == b"5\r\nfirst\r\n6\r\nsecond\r\n5\r\nthird\r\n0\r\n\r\n"
    assert not writers[0](b"too late")
    writers.clear()
    head_only = parsed(await exchange(run.port, get("/stream", method="HEAD")))
    assert (head_only[2], writers) == (b"", [])


async def test_a_slow_reader_is_written_nothing_past_the_iterator(run: Running) -> None:
    writers: list[Callable[[bytes], bool]] = []
    ended = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            ended.set()

    run.service.on_streaming = writers.append
    run.service.pieces = pieces  # type: ignore[method-assign]
    _, writer = await asyncio.open_connection(sock=await slow_socket(run.port), limit=1024)
    writer.write(get("/stream"))
    await run.until(lambda: bool(writers))
    taken = 0
    while writers[0](b"x" * 100_000):
        taken += 1
        assert taken < 1000, "nobody reads"
    writer.transport.abort()
    async with asyncio.timeout(WAIT_SECONDS):
        await ended.wait()
    assert not writers[0](b"gone")


async def test_a_streamed_request(run: Running) -> None:
    """More than the body limit, because the handler takes it piece by piece."""
    size = 3_000_000
    head = get("/upload", f"Content-Length: {size}", method="POST")
    received = await exchange(run.port, head, bytes(size // 2), bytes(size // 2))
    assert parsed(received)[2] == b"3000000"


async def test_expect_continue(run: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
    writer.write(get("/a", "Expect: 100-continue", "Content-Length: 2", method="PUT"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hi")
    assert (await reader.read()).endswith(b"PUT /a  2")
    writer.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nBroken\x00: x\r\n\r\n", 400),
        (get("/", "X: " + "x" * 40_000), 431),
        (get("/" + "u" * 40_000), 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000, 431),
        (get("/", "Content-Length: 100001", method="POST"), 413),
        (
            get("/", "Transfer-Encoding: chunked", method="POST") + b"186a1\r\n" + bytes(100_001),
            413,
        ),
        (get("/", "Content-Length: x", method="POST"), 400),
        (get("/broken"), 500),
    ],
)
async def test_refusals(run: Running, request_: bytes, status: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
    writer.write(request_)
    line = await asyncio.wait_for(reader.readline(), WAIT_SECONDS)
    assert line.split()[1] == b"%d" % status
    writer.transport.abort()


async def test_nothing_is_read_after_a_refusal(run: Running) -> None:
    received = await exchange(run.port, b"NONSENSE\r\n\r\n" + get("/secret"))
    assert received.count(b"HTTP/1.1") == 1


async def test_an_upgrade_is_not_taken(run: Running) -> None:
    """spec/wire-api.md §3.4: no h2c upgrade."""
    request = get("/x", "Upgrade: h2c", "HTTP2-Settings: AAA", "Connection: Upgrade", close=False)
    reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
    writer.write(request)
    assert await reader.readuntil(b"GET /x  0")
    writer.close()


async def test_a_half_closed_client_gets_its_answer(run: Running) -> None:
    received = await exchange(run.port, get("/x", close=False), eof=True)
    assert received.endswith(b"GET /x  0")


async def test_an_idle_connection_is_closed() -> None:
    async with running(TransportLimits(http_idle_seconds=0.05)) as run:
        received = await exchange(run.port, get("/x", close=False))
        assert received.endswith(b"GET /x  0")


async def test_a_client_that_leaves_ends_its_stream(run: Running) -> None:
    ended = asyncio.Event()

    async def forever() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0)
        finally:
            ended.set()

    run.service.pieces = forever  # type: ignore[method-assign]
    reader, writer = await asyncio.open_connection("127.0.0.1", run.port)
    writer.write(get("/stream"))
    await reader.readexactly(5000)
    writer.transport.abort()
    await asyncio.wait_for(ended.wait(), WAIT_SECONDS)


async def test_a_slow_reader_holds_its_stream_back(run: Running) -> None:
    produced = 0

    async def plenty() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(1000):
            produced += 1
            yield b"x" * 100_000

    run.service.pieces = plenty  # type: ignore[method-assign]
    reader, writer = await asyncio.open_connection(sock=await slow_socket(run.port), limit=1024)
    writer.write(get("/stream"))
    await reader.readexactly(1024)
    (connection,) = run.server._endpoints[0].connections
    await run.until(lambda: connection._paused_writing)  # type: ignore[attr-defined]
    assert produced < 900
    writer.transport.abort()


async def test_protocols_can_be_split(run: Running) -> None:
    """spec/wire-api.md §3.4: with listen-client-http-urls each listener speaks one of them."""
    _, grpc_port = await run.server.listen_tcp("127.0.0.1", 0, serve_http=False)
    _, http_port = await run.server.listen_tcp("127.0.0.1", 0, serve_grpc=False)
    assert await exchange(grpc_port, get("/health")) == b""
    assert parsed(await exchange(http_port, get("/health")))[0] == 200
    client = await RawClient.connect(http_port)
    await client.until_closed()
    await client.close()
    client = await RawClient.connect(grpc_port)
    client.call(1, b"x")
    assert (await client.answered(1))["grpc-status"] == "0"
    await client.close()
