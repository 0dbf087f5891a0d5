"""Short questions to other members share connections (spec/peer.md §3.4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kvserver.peers.client import HttpClient, PeerUnreachable

WAIT_SECONDS = 60.0
"""Only an upper bound for a test that hangs."""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


class Other:
    """The other member: answers each request with the next of `answers`, then with the last."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.connections: list[asyncio.StreamWriter] = []
        self.requests = 0
        self.heard = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                self.heard.set()
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def asked(*answers: bytes) -> AsyncIterator[tuple[Other, HttpClient]]:
    other = Other(*answers)
    server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    other.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = HttpClient(asyncio.get_running_loop())
    try:
        yield other, client
    finally:
        client.stop()
        for writer in other.connections:
            writer.close()
        server.close()
        await server.wait_closed()


async def ask(client: HttpClient, url: str) -> str:
    answer = await client.request(
        url, "POST", "/leases", is_kept=True, timeout_seconds=WAIT_SECONDS
    )
    return answer.text


async def test_one_after_the_other_share_one() -> None:
    async with asked(ANSWER) as (other, client):
        assert [await ask(client, other.url) for _ in range(5)] == ["ok"] * 5
        assert (len(other.connections), other.requests) == (1, 5)
        await asyncio.gather(*(ask(client, other.url) for _ in range(3)))
        assert len(other.connections) == 3, "at the same time they cannot"
        await asyncio.gather(*(ask(client, other.url) for _ in range(3)))
        assert len(other.connections) == 3


async def test_others_get_their_own() -> None:
    async with asked(ANSWER) as (other, client):
        for _ in range(2):
            await client.request(other.url, "GET", "/members", timeout_seconds=WAIT_SECONDS)
        assert len(other.connections) == 2


@pytest.mark.parametrize("is_told", [True, False])
async def test_one_that_was_closed_is_not_used_again(is_told: bool) -> None:
    async with asked(CLOSING if is_told else ANSWER) as (other, client):
        await ask(client, other.url)
        other.connections[0].transport.abort()
        assert await ask(client, other.url) == "ok"
        assert len(other.connections) == 2


async def test_one_that_is_closed_under_the_request_is_replaced() -> None:
    """The other side's idle time was over at that very moment."""
    async with asked(ANSWER) as (other, client):
        await ask(client, other.url)
        other.answers = [b"", ANSWER]
        other.heard.clear()
        asking = asyncio.ensure_future(ask(client, other.url))
        async with asyncio.timeout(WAIT_SECONDS):
            await other.heard.wait()
        other.connections[0].transport.abort()
        assert await asking == "ok"
        assert (len(other.connections), other.requests) == (2, 3)


async def test_nobody_there_is_an_error_all_the_same() -> None:
    async with asked(ANSWER) as (_, client):
        with pytest.raises(PeerUnreachable):
            await ask(client, "http://127.0.0.1:1")


async def test_bytes_that_nobody_asked_for_end_it() -> None:
    async with asked(ANSWER + b"HTTP/1.1 200 OK\r\n", ANSWER) as (other, client):
        await ask(client, other.url)
        assert await ask(client, other.url) == "ok"
