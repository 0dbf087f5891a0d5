"""--raft-read-timeout and --raft-write-timeout: links on which nothing moves are dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kvserver.limits import PEER_HEARTBEAT_SECONDS, PEER_IO_SECONDS_MIN
from kvserver.logs import NULL_LOGGER
from kvserver.peers.client import HttpClient, PeerUnreachable
from kvserver.peers.dialler import Dialler, Urls
from kvserver.peers.frames import EntryCache
from kvserver.peers.identity import Identity
from kvserver.peers.network import io_deadlines
from kvserver.peers.peer import MESSAGE, Peer

WAIT_SECONDS = 60.0


async def test_a_stream_that_stays_silent_is_given_up() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.6.0\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    loop = asyncio.get_running_loop()
    up, down, ended = loop.create_future(), loop.create_future(), asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    dialler = Dialler(
        loop=loop,
        client=HttpClient(loop),
        identity=Identity(1, 2, ()),
        peer_id=3,
        kind=MESSAGE,
        urls=Urls((f"http://127.0.0.1:{port}",)),
        silence_seconds_max=0.05,
        receive=lambda messages: None,
        on_up=lambda: up.done() or up.set_result(None),
        on_down=lambda reason: down.done() or down.set_result(reason),
        on_removed=lambda: None,
        log=NULL_LOGGER,
    )
    async with asyncio.timeout(WAIT_SECONDS):
        await up
        assert await down == "message stream: nothing came for too long"
        dialler.stop()
        await ended.wait()
    server.close()


class Idle:
    """A dialler and a pipeline of which nothing is asked."""

    def stop(self) -> None: ...


class Events:
    def __init__(self) -> None:
        self.lost = 0
        self.changes: list[tuple[bool, str]] = []

    def dropped(self, peer_id: int) -> None:
        self.lost += 1

    def changed(self, peer_id: int, is_active: bool, reason: str) -> None:
        self.changes.append((is_active, reason))

    def unreachable(self, peer_id: int, reason: str) -> None: ...

    def now(self) -> float:
        return 1.0


async def test_a_stream_whose_other_end_takes_nothing_is_given_up() -> None:
    events = Events()
    peer = Peer(
        3,
        Urls(()),
        EntryCache(),
        events,
        lambda *_: Idle(),
        lambda *_: Idle(),
        6,  # type: ignore[arg-type, return-value]
    )
    peer.up()
    body = peer.attach(MESSAGE)
    for _ in range(5):
        peer.send_heartbeats()
        assert events.lost == 0
    peer.send_heartbeats()
    assert events.lost == 1
    assert events.changes[-1] == (False, "the member takes nothing")
    assert [piece async for piece in body] == []


def test_less_than_five_seconds_is_no_deadline() -> None:
    """spec/config.md §2.1: values under 5 s are raised to 5 s."""
    assert io_deadlines(0.5, 0) == (PEER_IO_SECONDS_MIN, 4)
    reading, heartbeats = io_deadlines(60, 20)
    assert reading == 60
    assert (heartbeats - 1) * PEER_HEARTBEAT_SECONDS >= 20


async def test_a_database_that_nobody_takes_is_given_up() -> None:
    """However much the kernels hold meanwhile: a network that swallows packets breaks nothing."""
    taken = asyncio.Event()

    async def stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taken.wait()
        writer.close()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    server = await asyncio.start_server(stand_still, "127.0.0.1", 0, limit=4096)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = HttpClient(asyncio.get_running_loop())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            with pytest.raises(PeerUnreachable):
                await client.upload(url, "/raft/snapshot", {}, endless(), 60.0, stall_seconds=0.2)
    finally:
        taken.set()
        client.stop()
        server.close()
        await server.wait_closed()
