"""How a server ends: GOAWAY twice, open calls finished, then nothing."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from kvserver.transport import frames
from kvserver.transport.errors import NO_ERROR, REFUSED_STREAM
from tests.transport.raw import RawClient, block, replaced
from tests.transport.running import WAIT_SECONDS, running, wait_for


async def test_an_idle_connection_closes_after_a_round_trip() -> None:
    async with running() as run:
        client = await RawClient.connect(run.port)
        client.call(1, b"x")
        await client.answered(1)
        draining = asyncio.ensure_future(run.server.drain(60))
        first = await client.first(frames.GOAWAY)
        assert (first.payload[:4], first.error_code) == (b"\x7f\xff\xff\xff", NO_ERROR)
        ping = await client.first(frames.PING)
        client.frames.clear()
        client.send(frames.ping(ping.payload, ack=True))
        final = await client.first(frames.GOAWAY)
        assert (final.payload[:4], final.error_code) == (b"\x00\x00\x00\x01", NO_ERROR)
        await client.until_closed()
        await draining
        await client.close()


async def test_open_calls_end_and_new_ones_are_refused() -> None:
    async with running() as run:
        client = await RawClient.connect(run.port)
        client.call(1, b"answer", "/pkg.Svc/Slowly")
        await wait_for(run.service.arrived)
        draining = asyncio.ensure_future(run.server.drain(60))
        ping = await client.first(frames.PING)
        client.call(3, b"sent before the client knew")
        assert (await client.answered(3))["grpc-status"] == "0"
        client.send(frames.ping(ping.payload, ack=True))
        await client.until(lambda seen: sum(f.kind == frames.GOAWAY for f in seen) == 2)
        client.call(5, b"too late")
        assert (await client.first(frames.RST_STREAM, 5)).error_code == REFUSED_STREAM
        assert not draining.done()
        run.service.release.set()
        assert (await client.answered(1))["grpc-status"] == "0"
        await client.until_closed()
        await draining
        await client.close()


async def test_the_grace_period_ends() -> None:
    async with running() as run:
        client = await RawClient.connect(run.port)
        fields = block(*replaced(path="/pkg.Svc/Silent"))
        client.send(frames.frame(frames.HEADERS, 4, 1, fields))
        await wait_for(run.service.arrived)
        await run.server.drain(0.05)
        await wait_for(run.service.cancelled)
        assert run.server.open_connections == 0
        await client.until_closed()
        await client.close()


async def test_nobody_gets_in_any_more() -> None:
    async with running() as run:
        await run.server.drain(0)
        with pytest.raises(OSError):
            await RawClient.connect(run.port)


async def test_http1_finishes_its_request() -> None:
    async with running() as run:
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", run.port)
        idle_writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        await idle.readuntil(b"GET /a  0")
        await asyncio.wait_for(run.server.drain(600), WAIT_SECONDS)
        assert await idle.read() == b""
        idle_writer.close()


async def test_a_grpc_client_moves_over_without_an_error() -> None:
    """A client with two addresses sees nothing of one server's end."""
    async with running() as one, running() as other:
        target = f"ipv4:127.0.0.1:{one.port},127.0.0.1:{other.port}"
        async with grpc.aio.insecure_channel(target) as channel:
            call = channel.unary_unary("/pkg.Svc/Later")
            assert await call(b"before") == b"before"
            results = [asyncio.ensure_future(_call(call, n)) for n in range(20)]
            await one.server.drain(60)
            assert await asyncio.gather(*results) == list(range(20))
            assert await call(b"after", wait_for_ready=True, timeout=60) == b"after"


async def _call(call: grpc.aio.UnaryUnaryMultiCallable, number: int) -> int:
    return int(await call(b"%d" % number, wait_for_ready=True, timeout=60))
