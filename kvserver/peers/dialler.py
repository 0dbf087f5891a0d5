"""Keeps one stream open at one other member, and reads what it writes (spec/peer.md §3).

Ends for good only when that member says that we were removed; anything else is tried again, at
its next URL. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from kvserver.errors import KeydeckError
from kvserver.limits import PEER_REDIAL_SECONDS
from kvserver.logs import Logger
from kvserver.membership.ids import format_id
from kvserver.peers.client import Exchange, HttpClient, PeerUnreachable, close, request_head
from kvserver.peers.figures import LinkFigures
from kvserver.peers.frames import AppendReader, MessageReader, StreamError
from kvserver.peers.identity import Identity, minor_version
from kvserver.raft import Message


class Removed(KeydeckError):
    """The other member says that this one was removed from the cluster."""


class RefusedStream(KeydeckError):
    """The other member answered, but gives no stream."""


class Reader(Protocol):
    def feed(self, data: bytes) -> list[Message]: ...


class Urls:
    """A member's peer URLs; after a failure on one comes the next, cyclically."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        self.all = urls
        self._at = 0

    def current(self) -> str:
        if not self.all:
            raise PeerUnreachable("the member has no peer URL")
        return self.all[self._at % len(self.all)].rstrip("/")

    def failed(self) -> None:
        self._at += 1

    def replace(self, urls: tuple[str, ...]) -> None:
        if urls != self.all:
            self.all, self._at = urls, 0


class Dialler:
    """One stream, `message` or `msgapp`, that we read."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        client: HttpClient,
        identity: Identity,
        peer_id: int,
        kind: str,
        urls: Urls,
        silence_seconds_max: float,
        receive: Callable[[list[Message]], None],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        on_removed: Callable[[], None],
        log: Logger,
        figures: LinkFigures | None = None,
    ) -> None:
        self._loop = loop
        self._client = client
        self._identity = identity
        self._peer_id = peer_id
        self._kind = kind
        self._urls = urls
        self._silence_seconds_max = silence_seconds_max
        self._receive = receive
        self._on_up = on_up
        self._on_down = on_down
        self._on_removed = on_removed
        self._figures = figures or LinkFigures()
        self._log = log
        self._exchange: Exchange | None = None
        self._task = loop.create_task(self._run())

    def stop(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self._read_stream()
            except Removed:
                self._on_removed()
                return
            except KeydeckError as error:
                if isinstance(error, StreamError):
                    self._figures.received_failures += 1
                self._urls.failed()
                self._on_down(f"{self._kind} stream: {error}")
            await asyncio.sleep(PEER_REDIAL_SECONDS)

    async def _read_stream(self) -> None:
        """From the dial to the end of the stream; a clean end raises nothing."""
        url = self._urls.current()
        exchange = await self._client.open(url, self._head)
        try:
            path = f"/raft/stream/{self._kind}/{format_id(self._identity.member_id)}"
            headers = self._identity.request_headers(to=self._peer_id)
            assert exchange.transport is not None
            exchange.transport.write(request_head(url, "GET", path, headers))
            await self._until_silent(exchange)
            answer = await exchange.answer
            if answer.status == 410:
                raise Removed("the member has been permanently removed from the cluster")
            if answer.status != 200:
                raise RefusedStream(f"{answer.status} {answer.text}")
        finally:
            close(exchange)

    async def _until_silent(self, exchange: Exchange) -> None:
        """Returns when the stream has ended. Raises when nothing has come for too long."""
        while True:
            before = exchange.received_bytes
            done, _ = await asyncio.wait((exchange.answer,), timeout=self._silence_seconds_max)
            if done:
                return
            if exchange.received_bytes == before:
                raise PeerUnreachable("nothing came for too long")

    def _head(self, status: int, headers: Mapping[str, str]) -> Callable[[bytes], None] | None:
        if status != 200:
            return None
        if minor_version(headers.get("x-server-version", "")) is None:
            raise RefusedStream("the other member tells no version")
        self._on_up()
        reader: Reader
        if self._kind == "msgapp":
            reader = AppendReader(self._peer_id, self._identity.member_id)
        else:
            reader = MessageReader()
        receive, figures = self._receive, self._figures

        def take(data: bytes) -> None:
            figures.received_bytes += len(data)
            messages = reader.feed(data)
            if messages:
                receive(messages)

        return take
