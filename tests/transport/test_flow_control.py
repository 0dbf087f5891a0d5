"""Windows both ways, and peers that do not read."""

from __future__ import annotations

import asyncio

import pytest

from kvserver.transport import TransportLimits, frames
from kvserver.transport.errors import REFUSED_STREAM
from tests.transport.raw import RawClient, block, replaced, slow_socket
from tests.transport.running import WAIT_SECONDS, H2Client, message, running, wait_for


def opened(stream_id: int, method: str, body: bytes = b"go") -> bytes:
    fields = block(*replaced(path=f"/pkg.Svc/{method}"))
    return frames.frame(frames.HEADERS, 4, stream_id, fields) + frames.frame(
        frames.DATA, 1, stream_id, message(body)
    )


def received(client: RawClient, stream_id: int) -> bytes:
    return b"".join(
        f.payload for f in client.frames if f.kind == frames.DATA and f.stream_id == stream_id
    )


@pytest.mark.parametrize("window", [1, 100, 16_384])
async def test_a_reply_never_overdraws_a_tiny_window(window: int) -> None:
    size = 50 * min(window, 1000)
    async with running() as run:
        hello = frames.PREFACE + frames.settings([(4, window)])
        client = await RawClient.connect(run.port, hello)
        client.call(1, b"z" * size, "/pkg.Svc/Later")
        granted = window
        while len(received(client, 1)) < size + 5:
            due = min(granted, size + 5)
            await client.until(lambda _, due=due: len(received(client, 1)) >= due)
            assert len(received(client, 1)) <= granted
            client.send(frames.window_update(1, window), frames.window_update(0, window))
            granted += window
        assert (await client.answered(1))["grpc-status"] == "0"
        assert received(client, 1) == message(b"z" * size)
        await client.close()


async def test_a_fifty_megabyte_stream_through_default_windows() -> None:
    async with running() as run:
        run.service.chunks, run.service.chunk = 1600, b"q" * 32_763
        client = await RawClient.connect(run.port)
        client.send(opened(1, "Source"))
        total = credited = 0
        peak = 0
        while True:
            await client.until(lambda seen: seen)
            taken, client.frames = client.frames, []
            done = any(f.kind == frames.HEADERS and f.flags & 1 for f in taken)
            total += sum(len(f.payload) for f in taken if f.kind == frames.DATA)
            peak = max(peak, run.service.streams[0].queued_bytes)
            if done:
                break
            if total - credited > 30_000:
                grant = total - credited
                client.send(frames.window_update(1, grant), frames.window_update(0, grant))
                credited = total
        assert total == 1600 * 32_768
        # The handler waited in drain(): the queue held one mark and one message at most.
        assert peak <= run.server._limits.stream_high_water_bytes + 32_768
        await client.close()


async def test_streams_share_a_connection_window_fairly() -> None:
    async with running() as run:
        run.service.chunks, run.service.chunk = 100, b"f" * 10_000
        client = await RawClient.connect(run.port, frames.PREFACE + frames.settings([(4, 1 << 20)]))
        client.send(opened(1, "Source"), opened(3, "Source"))
        await client.until(lambda _: len(received(client, 1)) + len(received(client, 3)) == 65_535)
        await run.until(lambda: [s.writable for s in run.service.streams] == [False, False])
        client.frames = []
        client.send(frames.window_update(0, 200_000))
        await client.until(lambda _: len(received(client, 1)) + len(received(client, 3)) == 200_000)
        assert abs(len(received(client, 1)) - len(received(client, 3))) <= 2 * 16_384
        await client.close()


async def test_a_window_lowered_below_what_is_used_goes_negative() -> None:
    """RFC 9113 §6.9.2."""
    async with running() as run:
        client = await RawClient.connect(run.port, frames.PREFACE + frames.settings([(4, 1000)]))
        client.send(opened(1, "Later", b"w" * 2000))
        await client.until(lambda _: len(received(client, 1)) == 1000)
        client.send(frames.settings([(4, 0)]))
        client.send(frames.window_update(1, 1000), frames.ping(b"barrier1"))
        await client.first(frames.PING, 0, frames.ACK)
        assert len(received(client, 1)) == 1000  # the window is at 0, not at 1000
        client.send(frames.window_update(1, 1005))
        assert (await client.answered(1))["grpc-status"] == "0"
        assert received(client, 1) == message(b"w" * 2000)
        await client.close()


async def test_settings_are_acknowledged_before_what_they_allow() -> None:
    async with running() as run:
        client = await RawClient.connect(run.port, frames.PREFACE + frames.settings([(4, 0)]))
        client.send(opened(1, "Echo", b"held back"), frames.ping(b"barrier1"))
        await client.first(frames.PING, 0, frames.ACK)
        client.frames.clear()
        client.send(frames.settings([(4, 1000)]))
        await client.first(frames.DATA, 1)
        assert [f.kind for f in client.frames][:2] == [frames.SETTINGS, frames.DATA]
        await client.close()


async def test_larger_frames_are_used_when_allowed() -> None:
    async with running() as run:
        hello = frames.PREFACE + frames.settings([(4, 1 << 20), (5, 1 << 20)])
        client = await RawClient.connect(run.port, hello + frames.window_update(0, 1 << 20))
        client.send(opened(1, "Source"))
        run.service.chunks, run.service.chunk = 1, b"l" * 100_000
        await client.answered(1)
        assert (await client.first(frames.DATA, 1)).payload == message(b"l" * 100_000)
        await client.close()


async def test_a_request_larger_than_the_stream_window() -> None:
    """Our WINDOW_UPDATEs come in time, and batched: one per half window."""
    async with running() as run:
        client = await H2Client.connect(run.port)
        body = message(b"u" * 2_000_000)
        stream = client.request("/pkg.Svc/Echo", None, end=False)
        position = 0
        while position < len(body):
            room = min(client.h2.local_flow_control_window(stream), 16_384, len(body) - position)
            if room == 0:
                seen = len(client.events)
                client.flush()
                await client.until(lambda events, seen=seen: len(events) > seen)
                continue
            client.h2.send_data(stream, body[position : position + room])
            position += room
        client.h2.end_stream(stream)
        client.flush()
        assert (await client.answer(stream))[1] == body
        await client.close()


async def test_a_reader_that_stopped_stops_its_stream_not_the_server() -> None:
    """Neither queue nor socket buffer grows once the peer reads nothing."""
    limits = TransportLimits(socket_high_water_bytes=64 * 1024, flush_bytes=64 * 1024)
    async with running(limits) as run:
        run.service.chunks, run.service.chunk = 10_000, b"s" * 65_000
        loop = asyncio.get_running_loop()
        sock = await slow_socket(run.port)
        hello = frames.PREFACE + frames.settings([(4, 2**31 - 1)])
        grant = frames.window_update(0, 2**31 - 1 - 65_535)
        await loop.sock_sendall(sock, hello + grant + opened(1, "Source"))
        await run.until(lambda: run.service.streams)
        stream = run.service.streams[0]
        await run.until(lambda: not stream.writable)
        connection = stream.connection
        assert connection.write_paused
        assert stream.queued_bytes <= limits.stream_high_water_bytes + 65_005
        assert connection.transport.get_write_buffer_size() <= 64 * 1024 + 2 * 65_005
        other = await RawClient.connect(run.port)
        other.call(1, b"served")
        assert (await other.answered(1))["grpc-status"] == "0"
        await other.close()
        sock.close()
        await run.until(lambda: run.server.open_connections == 0)


async def test_input_is_not_parsed_while_the_socket_is_full() -> None:
    limits = TransportLimits(socket_high_water_bytes=16 * 1024, flush_bytes=16 * 1024)
    async with running(limits) as run:
        loop = asyncio.get_running_loop()
        sock = await slow_socket(run.port)
        grant = frames.window_update(0, 2**31 - 1 - 65_535)
        await loop.sock_sendall(sock, frames.PREFACE + frames.settings([(4, 2**31 - 1)]) + grant)
        body = b"b" * 16_000
        calls = [opened(2 * n + 1, "Echo", body) for n in range(1000)]
        sending = asyncio.ensure_future(loop.sock_sendall(sock, b"".join(calls)))
        await run.until(lambda: run.server.open_connections)
        (connection,) = run.server._endpoints[0].connections
        await run.until(lambda: connection.write_paused)
        handled = len(run.service.calls)
        assert handled < 1000
        assert connection.transport.get_write_buffer_size() < 300_000
        # The peer reads again: everything is answered, in order.
        size = 0
        while size < 1000 * 16_000:
            data = await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), WAIT_SECONDS)
            assert data
            size += len(data)
        await sending
        assert len(run.service.calls) == 1000
        sock.close()


async def test_replies_that_nobody_admits_refuse_new_streams() -> None:
    limits = TransportLimits(unsent_bytes_max=1000)
    async with running(limits) as run:
        client = await RawClient.connect(run.port, frames.PREFACE + frames.settings([(4, 0)]))
        client.send(opened(1, "Echo", b"n" * 2000), opened(3, "Echo", b"x"))
        assert (await client.first(frames.RST_STREAM, 3)).error_code == REFUSED_STREAM
        client.send(frames.window_update(1, 10_000))
        await client.answered(1)
        client.send(opened(5, "Echo", b""), frames.window_update(5, 10))
        await client.answered(5)
        await client.close()


async def test_half_sent_requests_are_bounded() -> None:
    """REFUSED_STREAM: no handler has seen it, the caller may try again."""
    limits = TransportLimits(
        stream_window_bytes=65_536, connection_window_bytes=65_536, received_bytes_max=65_536
    )
    async with running(limits) as run:
        client = await RawClient.connect(run.port)
        prefix = b"\x00" + (100_000).to_bytes(4, "big") + bytes(9000)
        for n in range(8):
            fields = frames.frame(frames.HEADERS, 4, 2 * n + 1, block())
            client.send(fields, frames.frame(frames.DATA, 0, 2 * n + 1, prefix))
        assert (await client.first(frames.RST_STREAM)).error_code == REFUSED_STREAM
        assert (await client.first(frames.RST_STREAM)).stream_id == 15
        (connection,) = run.server._endpoints[0].connections
        assert connection.received_bytes == 7 * 9005
        client.send(*(frames.rst_stream(2 * n + 1, 8) for n in range(7)))
        await run.until(lambda: connection.received_bytes == 0)
        await client.close()


async def test_unread_messages_of_a_stream_hold_its_window() -> None:
    async with running() as run:
        client = await H2Client.connect(run.port)
        stream = client.request("/pkg.Svc/Silent", None, end=False)
        await wait_for(run.service.arrived)
        before = client.h2.local_flow_control_window(stream)
        for _ in range(4):
            client.h2.send_data(stream, message(b"m" * 16_000))
        client.flush()
        handler = run.service.streams[0]
        await run.until(lambda: handler.connection.received_bytes == 64_000)
        assert client.h2.local_flow_control_window(stream) <= before - 64_000
        run.service.release.set()
        await client.ended(stream)
        assert handler.connection.received_bytes == 0
        await client.close()


async def test_on_writable_is_called_once_below_the_low_mark() -> None:
    limits = TransportLimits(stream_high_water_bytes=1000, stream_low_water_bytes=100)
    async with running(limits) as run:
        client = await RawClient.connect(run.port, frames.PREFACE + frames.settings([(4, 0)]))
        client.send(opened(1, "Silent"))
        await wait_for(run.service.arrived)
        stream = run.service.streams[0]
        told: list[int] = []
        stream.on_writable = lambda: told.append(stream.queued_bytes)
        stream.send_many([b"a" * 495, b"b" * 495])
        assert not stream.writable
        assert (stream.queued_bytes, stream.queued_messages) == (1000, 2)
        client.send(frames.window_update(1, 800))
        await client.until(lambda _: len(received(client, 1)) == 800)
        assert told == []
        assert stream.queued_messages == 1
        client.send(frames.window_update(1, 150))
        await run.until(lambda: told)
        assert told == [50]
        client.send(frames.window_update(1, 50))
        await client.until(lambda _: len(received(client, 1)) == 1000)
        run.service.release.set()
        await client.answered(1)
        assert told == [50]
        await client.close()
