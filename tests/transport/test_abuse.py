"""Peers that make work instead of requests (verification.md, lessons; spec/wire-api.md §3.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from kvserver.transport import TransportLimits, frames
from kvserver.transport.errors import ENHANCE_YOUR_CALM, REFUSED_STREAM
from tests.transport.raw import RawClient, block, replaced, slow_socket
from tests.transport.running import Running, message, running, wait_for

SMALL = TransportLimits(nuisance_frames_burst=100, nuisance_frames_per_second=0.0)


@pytest.fixture
async def run() -> AsyncIterator[Running]:
    async with running(SMALL) as run:
        yield run


def opened(stream_id: int, method: str = "Never", flags: int = 0) -> bytes:
    fields = block(*replaced(path=f"/pkg.Svc/{method}"))
    return frames.frame(frames.HEADERS, frames.END_HEADERS | flags, stream_id, fields)


async def calmed(client: RawClient, reason: bytes = b"too many control frames") -> None:
    goaway = await client.first(frames.GOAWAY)
    assert goaway.error_code == ENHANCE_YOUR_CALM
    assert goaway.payload[8:] == reason
    await client.until_closed()
    await client.close()


FLOODS: dict[str, Callable[[int], bytes]] = {
    "rapid reset": lambda n: opened(2 * n + 1) + frames.rst_stream(2 * n + 1, 8),
    "settings": lambda n: frames.settings([]),
    "empty DATA": lambda n: frames.frame(frames.DATA, 0, 1),
    "priority": lambda n: frames.frame(frames.PRIORITY, 0, 3, bytes(5)),
    "window updates": lambda n: frames.window_update(0, 1),
    "unknown frames": lambda n: frames.frame(0xEE, 0, 0),
    "goaway": lambda n: frames.goaway(0, 0),
    "malformed requests": lambda n: frames.frame(frames.HEADERS, 5, 2 * n + 3, b"\x83"),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_floods_end_the_connection(run: Running, flood: Callable[[int], bytes]) -> None:
    client = await RawClient.connect(run.port)
    if flood is not FLOODS["rapid reset"]:
        client.send(opened(1))
    for number in range(200):
        client.send(flood(number))
    await calmed(client)
    await run.until(lambda: run.server.open_streams == 0)


async def test_a_continuation_flood_of_small_frames(run: Running) -> None:
    client = await RawClient.connect(run.port)
    client.send(frames.frame(frames.HEADERS, 0, 1, block()))
    for _ in range(200):
        client.send(frames.frame(frames.CONTINUATION, 0, 1))
    await calmed(client)


async def test_an_endless_header_block(run: Running) -> None:
    client = await RawClient.connect(run.port)
    field = block(("token", "t" * 15_000))
    client.send(frames.frame(frames.HEADERS, 0, 1, field))
    for _ in range(5):
        client.send(frames.frame(frames.CONTINUATION, 0, 1, field))
    await calmed(client, b"header block too long")


async def test_a_header_bomb_is_counted_not_unpacked(run: Running) -> None:
    """One table entry of 4 kB referred to ten thousand times."""
    client = await RawClient.connect(run.port)
    name, value = b"x" * 10, b"v" * 4000
    entry = b"\x40" + bytes((len(name),)) + name + b"\x7f\xa1\x1e" + value
    client.send(frames.frame(frames.HEADERS, 4, 1, block() + entry + b"\xbe" * 10_000))
    assert (await client.answered(1))[":status"] == "431"
    client.call(3, b"x")
    assert (await client.answered(3))["grpc-status"] == "0"
    await client.close()


async def test_honest_cancellations_are_paid_by_finished_calls(run: Running) -> None:
    client = await RawClient.connect(run.port)
    for number in range(300):
        client.call(4 * number + 1, b"x")
        client.send(opened(4 * number + 3), frames.rst_stream(4 * number + 3, 8))
    assert (await client.answered(4 * 299 + 1))["grpc-status"] == "0"
    assert not [f for f in client.frames if f.kind == frames.GOAWAY]
    await client.close()


async def test_window_updates_are_paid_by_what_was_sent(run: Running) -> None:
    run.service.chunks, run.service.chunk = 400, b"d" * 1019
    client = await RawClient.connect(run.port)
    client.send(opened(1, "Source"), frames.frame(frames.DATA, 1, 1, message(b"go")))
    received = 0
    while received < 400 * 1024:
        await client.until(lambda seen: seen)
        taken, client.frames = client.frames, []
        for frame in taken:
            assert frame.kind != frames.GOAWAY
            if frame.kind == frames.DATA:
                received += len(frame.payload)
                grant = len(frame.payload)
                client.send(frames.window_update(0, grant), frames.window_update(1, grant))
    await client.close()


async def test_too_many_pings_without_a_stream(run: Running) -> None:
    """spec/wire-api.md §3.3: the third strike; the first ping has nothing to be too soon after."""
    client = await RawClient.connect(run.port)
    for _ in range(3):
        client.send(frames.ping(bytes(8)))
    client.send(frames.ping(b"fourth.."))
    await calmed(client, b"too_many_pings")
    acks = [f for f in client.frames if f.kind == frames.PING and f.flags & frames.ACK]
    assert len(acks) == 4


async def test_too_many_pings_with_a_stream(run: Running) -> None:
    client = await RawClient.connect(run.port)
    client.send(opened(1))
    for _ in range(4):
        client.send(frames.ping(bytes(8)))
    await calmed(client, b"too_many_pings")


async def test_pings_after_output_are_no_strikes(run: Running) -> None:
    """Clients measure bandwidth with a ping per piece of received data."""
    client = await RawClient.connect(run.port)
    for number in range(20):
        client.call(2 * number + 1, b"x")
        await client.answered(2 * number + 1)
        client.send(frames.ping(b"%08d" % number))
        await client.until(lambda seen, n=number: any(f.payload == b"%08d" % n for f in seen))
    assert not [f for f in client.frames if f.kind == frames.GOAWAY]
    await client.close()


async def test_streams_beyond_the_maximum_are_refused() -> None:
    async with running(TransportLimits(concurrent_streams_max=3)) as run:
        client = await RawClient.connect(run.port)
        settings = await client.first(frames.SETTINGS)
        assert (3).to_bytes(2, "big") + (3).to_bytes(4, "big") in settings.payload
        client.send(*(opened(n, "Silent") for n in (1, 3, 5, 7)))
        refused = await client.first(frames.RST_STREAM)
        assert (refused.stream_id, refused.error_code) == (7, REFUSED_STREAM)
        client.send(frames.rst_stream(1, 8))
        client.call(9, b"x")
        assert (await client.answered(9))["grpc-status"] == "0"
        await client.close()


@pytest.mark.parametrize("sent", [b"", b"PRI * HTTP/2.0\r\n"])
async def test_a_preface_that_does_not_come(sent: bytes) -> None:
    async with running(TransportLimits(preface_seconds=0.05)) as run:
        client = await RawClient.connect(run.port, sent)
        await client.until_closed()
        await client.close()


async def test_a_silent_peer_is_asked_and_then_given_up() -> None:
    limits = TransportLimits(keepalive_seconds=0.05, keepalive_timeout_seconds=0.05)
    async with running(limits) as run:
        hello = frames.PREFACE + frames.settings([])
        client = await RawClient.connect(run.port, hello + opened(1, "Silent"))
        await wait_for(run.service.arrived)
        await client.first(frames.PING)
        await client.until_closed()
        await wait_for(run.service.cancelled)
        await client.close()


async def test_a_peer_that_hears_no_goaway_is_cut_off(
    run: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket nobody reads does not outlive its connection."""
    monkeypatch.setattr("kvserver.transport.control.LINGER_SECONDS", 0.05)
    run.service.chunks, run.service.chunk = 2000, b"x" * 60_000
    hello = frames.PREFACE + frames.settings([(4, 2**31 - 1)])
    grant = frames.window_update(0, 2**31 - 1 - 65_535)
    reader, writer = await asyncio.open_connection(sock=await slow_socket(run.port), limit=1024)
    writer.write(hello + grant + opened(1, "Source") + frames.frame(0, 1, 1, message(b"go")))
    await run.until(lambda: run.service.streams and not run.service.streams[0].writable)
    run.service.streams[0].connection.fault(ENHANCE_YOUR_CALM, "test")
    await run.until(lambda: run.server.open_connections == 0)
    writer.transport.abort()
    assert not reader.at_eof()
