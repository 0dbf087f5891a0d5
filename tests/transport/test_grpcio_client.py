"""The Python gRPC client against the server: what every Python etcd client leans on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.transport.running import Running, running, wait_for


@pytest.fixture
async def run() -> AsyncIterator[Running]:
    async with running() as run:
        yield run


@pytest.fixture
async def channel(run: Running) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(run.target) as channel:
        yield channel


@pytest.mark.parametrize("method", ["Echo", "Later"])
async def test_unary(channel: grpc.aio.Channel, method: str) -> None:
    call = channel.unary_unary(f"/pkg.Svc/{method}")
    assert await call(b"hello") == b"hello"
    assert await call(b"") == b""


async def test_unary_from_a_coroutine(run: Running, channel: grpc.aio.Channel) -> None:
    run.service.release.set()
    assert await channel.unary_unary("/pkg.Svc/Slowly")(b"hello") == b"hello"


async def test_many_unary_calls_at_once(run: Running, channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary("/pkg.Svc/Later")
    bodies = [b"%d" % n for n in range(300)]
    assert await asyncio.gather(*(call(body, timeout=60) for body in bodies)) == bodies
    counters = run.server.counters.methods["/pkg.Svc/Later"]
    assert counters.started == counters.ok == 300
    assert counters.messages_received == counters.messages_sent == 300


async def test_blocking_client(run: Running) -> None:
    def work() -> list[bytes]:
        with grpc.insecure_channel(run.target) as channel:
            call = channel.unary_unary("/pkg.Svc/Echo")
            return [call(b"%d" % n, timeout=60) for n in range(5)]

    assert await asyncio.to_thread(work) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_long_stream_of_small_messages_is_no_abuse(channel: grpc.aio.Channel) -> None:
    """gRPC's C core gives the window of each message back by itself, and pings: thousands of
    control frames that a stream of keep-alives brings along."""
    count = 20_000

    async def bodies() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"lease"

    call = channel.stream_stream("/pkg.Svc/Bidi")(bodies(), timeout=120)
    assert sum([body == b"lease" async for body in call]) == count


@pytest.mark.parametrize("size", [16_379, 16_380, 65_536, 1_500_000, 2 * 1024 * 1024])
async def test_large_messages_both_ways(channel: grpc.aio.Channel, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    assert await channel.unary_unary("/pkg.Svc/Echo")(body[:size], timeout=60) == body[:size]


async def test_too_large_message(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/pkg.Svc/Echo")(b"x" * (2 * 1024 * 1024 + 1), timeout=60)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == (
        "grpc: received message larger than max (2097153 vs. 2097152)"
    )


async def failure(call: Any) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/pkg.Svc/Nope", "UNIMPLEMENTED", "unknown method Nope for service pkg.Svc"),
        ("/pkg.No/Echo", "UNIMPLEMENTED", "unknown service pkg.No"),
        ("/nothing", "UNIMPLEMENTED", 'malformed method name: "/nothing"'),
        ("/pkg.Svc/Refuse", "FAILED_PRECONDITION", "etcdserver: no — 100% refused"),
        ("/pkg.Svc/Broken", "INTERNAL", "internal error"),
        ("/pkg.Svc/Foreign", "OUT_OF_RANGE", "a status of its own"),
    ],
)
async def test_statuses(channel: grpc.aio.Channel, path: str, status: str, text: str) -> None:
    """spec/wire-api.md §1.1: the texts of unknown methods and services."""
    code, details = await failure(channel.unary_unary(path)(b"x", timeout=60))
    assert (code.name, details) == (status, text)


async def test_deadline_is_answered_and_the_handler_told(
    run: Running, channel: grpc.aio.Channel
) -> None:
    seconds = 0.1
    while not run.service.calls:  # a busy machine may need longer for the way there
        seconds *= 2
        code, _ = await failure(channel.unary_unary("/pkg.Svc/Never")(b"x", timeout=seconds))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    await wait_for(run.service.cancelled)
    assert run.service.calls[0].cancelled
    run.service.calls[0].reply(b"too late")


async def test_cancel_reaches_the_handler(run: Running, channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary("/pkg.Svc/Never")(b"x")
    waiting = asyncio.ensure_future(call.wait_for_connection())
    await wait_for(run.service.arrived)
    waiting.cancel()
    call.cancel()
    await wait_for(run.service.cancelled)
    run.service.calls[0].fail(13, "too late")
    assert run.server.counters.methods["/pkg.Svc/Never"].handled == {1: 1}


async def test_cancel_stops_the_task(run: Running, channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary("/pkg.Svc/Slowly")(b"x")
    sending = asyncio.ensure_future(call.code())
    await wait_for(run.service.arrived)
    call.cancel()
    await wait_for(run.service.cancelled)
    sending.cancel()


async def test_metadata(run: Running, channel: grpc.aio.Channel) -> None:
    metadata = (("token", "abc.1"), ("token", "second"), ("key-bin", b"\x00\xff\x01"))
    await channel.unary_unary("/pkg.Svc/Echo")(b"x", metadata=metadata, timeout=60)
    call = run.service.calls[0]
    assert call.metadata["token"] == "abc.1"
    assert call.metadata["key-bin"] == b"\x00\xff\x01"
    assert "grpc-timeout" not in call.metadata
    assert call.deadline is not None
    assert call.peer.address.startswith("127.0.0.1:")
    assert call.peer.common_name is None


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests(run: Running, compression: grpc.Compression) -> None:
    async with grpc.aio.insecure_channel(run.target, compression=compression) as channel:
        body = b"abc" * 10_000
        assert await channel.unary_unary("/pkg.Svc/Echo")(body, timeout=60) == body
        stream = channel.stream_stream("/pkg.Svc/Bidi")()
        await stream.write(body)
        assert await stream.read() == body
        await stream.done_writing()


async def test_a_bomb_is_not_unpacked(run: Running) -> None:
    gzip = grpc.Compression.Gzip
    async with grpc.aio.insecure_channel(run.target, compression=gzip) as channel:
        code, details = await failure(
            channel.unary_unary("/pkg.Svc/Echo")(b"\x00" * (3 * 1024 * 1024), timeout=60)
        )
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(details)


async def test_bidi(run: Running, channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream("/pkg.Svc/Bidi")()
    for body in (b"a", b"", b"c" * 100_000):
        await call.write(body)
        assert await call.read() == body
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK
    assert run.service.stream_ended == ["half-close"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [(b"fail", "UNAVAILABLE", "as asked"), (b"break", "INTERNAL", "internal error")],
)
async def test_a_stream_fails_after_messages(
    channel: grpc.aio.Channel, body: bytes, status: str, text: str
) -> None:
    call = channel.stream_stream("/pkg.Svc/Bidi")()
    await call.write(b"first")
    assert await call.read() == b"first"
    await call.write(body)
    code, details = await failure(call.read())
    assert (code.name, details) == (status, text)


async def test_a_cancelled_stream_cancels_its_handler(
    run: Running, channel: grpc.aio.Channel
) -> None:
    call = channel.stream_stream("/pkg.Svc/Bidi")()
    await call.write(b"x")
    assert await call.read() == b"x"
    call.cancel()
    await wait_for(run.service.cancelled)
    assert run.service.streams[0].cancelled


async def test_a_stream_with_a_deadline(run: Running, channel: grpc.aio.Channel) -> None:
    seconds = 0.1
    while not run.service.streams:
        seconds *= 2
        call = channel.unary_stream("/pkg.Svc/Silent")(b"x", timeout=seconds)
        code, _ = await failure(call.read())
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    await wait_for(run.service.cancelled)


async def test_server_streaming(run: Running, channel: grpc.aio.Channel) -> None:
    run.service.chunks, run.service.chunk = 200, b"y" * 32_768
    received = [len(body) async for body in channel.unary_stream("/pkg.Svc/Source")(b"go")]
    assert received == [32_768] * 200


async def test_an_empty_stream_is_trailers_only(run: Running, channel: grpc.aio.Channel) -> None:
    call = channel.unary_stream("/pkg.Svc/Source")(b"go")
    assert await call.read() == grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


async def test_its_blocks_and_messages_take_the_short_way(run: Running) -> None:
    """The hot path is hot only if real clients are on it: no head is judged twice, and no message
    is gathered from pieces."""
    async with grpc.aio.insecure_channel(run.target) as channel:
        call = channel.unary_unary("/pkg.Svc/Echo")
        for _ in range(50):
            await call(b"x" * 300, timeout=60)
        heads = {id(each.head) for each in run.service.calls}
        assert len(heads) <= 2
        assert all(each._reader is None for each in run.service.calls)
