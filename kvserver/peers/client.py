"""HTTP/1.1 as a client of other members: short requests, and one endless body.

A connection serves one request. Owner: the event loop.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from kvserver.errors import KeydeckError
from kvserver.limits import SNAPSHOT_STALL_SECONDS
from kvserver.peers.kept import KeptConnections
from kvserver.peers.tls import DialTls

ANSWER_BYTES_MAX = 16 * 1024 * 1024
DIAL_SECONDS = 2.0


class PeerUnreachable(KeydeckError):
    """No connection, or it ended before the answer was whole."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace").removesuffix("\n")


class Exchange(asyncio.Protocol):
    """One request on one connection. `on_head(status, headers)` says who takes the body: a
    callback that is fed pieces, or None to gather it for the answer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_head: Callable[[int, Mapping[str, str]], Callable[[bytes], None] | None] | None = None,
    ) -> None:
        self.answer: asyncio.Future[Answer] = loop.create_future()
        """Resolved when the body has ended; fails with `PeerUnreachable`, or with what the
        taker of the body raised."""
        self.received_bytes = 0
        self.transport: asyncio.Transport | None = None
        self.is_ended_well = False
        self._loop = loop
        self._on_head = on_head
        self._take: Callable[[bytes], None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._drained: asyncio.Future[None] | None = None
        self._is_paused = False
        self._is_lost = False
        self._may_go_on = False

    @property
    def is_open(self) -> bool:
        """Whether another request may follow on this connection."""
        return self.is_ended_well and self._may_go_on and not self._is_lost

    def renew(self) -> None:
        """Another request on the same connection."""
        self.answer = self._loop.create_future()
        self.is_ended_well = self._may_go_on = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._body, self._body_bytes = {}, [], 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.is_ended_well:  # nobody has asked for anything
            self.is_ended_well = False
            if self.transport is not None:
                self.transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(PeerUnreachable("the answer asks for another protocol"))
        except httptools.HttpParserError as error:
            # A callback's exception comes wrapped: what the body's taker says goes out as it is.
            cause = error.__context__
            self.fail(cause if isinstance(cause, KeydeckError) else PeerUnreachable(str(error)))

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        self.resume_writing()
        if not self.answer.done():
            reason = str(error) if error else "the connection was closed"
            self.answer.set_exception(PeerUnreachable(reason))

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
        if self.transport is not None:
            self.transport.abort()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._on_head is not None:
            self._take = self._on_head(self._parser.get_status_code(), self._headers)

    def on_body(self, body: bytes) -> None:
        if self._take is not None:
            self._take(body)
            return
        self._body_bytes += len(body)
        if self._body_bytes > ANSWER_BYTES_MAX:
            raise PeerUnreachable("the answer is too long")
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.is_ended_well = True
        self._may_go_on = bool(self._parser.should_keep_alive())
        if not self.answer.done():
            status = self._parser.get_status_code()
            self.answer.set_result(Answer(status, self._headers, b"".join(self._body)))

    # writing under back-pressure

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def write(self, data: bytes, stall_seconds: float) -> None:
        """Raises `TimeoutError` when the other side takes nothing for so long."""
        assert self.transport is not None
        if self.answer.done():
            raise PeerUnreachable("the connection was closed")
        self.transport.write(data)
        if self._is_paused:
            self._drained = self._loop.create_future()
            async with asyncio.timeout(stall_seconds):
                await self._drained


class HttpClient:
    """Dials other members, with TLS where their URL says https."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, tls: DialTls | None = None, local_host: str = ""
    ) -> None:
        """`local_host`: the address of this machine to dial from, if not the system's choice."""
        self._loop = loop
        self._tls = tls
        self._local_address = (local_host, 0) if local_host else None
        self._kept = KeptConnections(loop, close)

    async def open(
        self,
        url: str,
        on_head: Callable[[int, Mapping[str, str]], Callable[[bytes], None] | None] | None = None,
    ) -> Exchange:
        """A connection to the member at `url`. Raises `PeerUnreachable`."""
        parts = urlsplit(url)

        def make() -> Exchange:
            return Exchange(self._loop, on_head)

        is_secure = parts.scheme in ("https", "unixs")
        try:
            context = self._context() if is_secure else None
            name = self._server_name(parts.hostname or "localhost") if is_secure else None
            async with asyncio.timeout(DIAL_SECONDS):
                if parts.scheme.startswith("unix"):
                    transport, exchange = await self._loop.create_unix_connection(
                        make, parts.netloc + parts.path, ssl=context, server_hostname=name
                    )
                else:
                    transport, exchange = await self._loop.create_connection(
                        make,
                        parts.hostname or "",
                        parts.port or 0,
                        ssl=context,
                        server_hostname=name,
                        local_addr=self._local_address,
                    )
        except TimeoutError:
            raise PeerUnreachable(f"dial {url}: timed out") from None
        except (OSError, ssl.SSLError) as error:
            raise PeerUnreachable(f"dial {url}: {error}") from None
        if is_secure and not self._is_allowed(transport):
            transport.abort()
            raise PeerUnreachable(f"dial {url}: its certificate is not one of those allowed")
        return exchange

    def _context(self) -> ssl.SSLContext:
        return self._tls.context() if self._tls is not None else ssl.create_default_context()

    def _server_name(self, host: str) -> str:
        return (self._tls.server_name if self._tls is not None else "") or host

    def _is_allowed(self, transport: asyncio.Transport) -> bool:
        return self._tls is None or self._tls.is_allowed(transport.get_extra_info("ssl_object"))

    async def request(
        self,
        url: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_seconds: float = 5.0,
        is_kept: bool = False,
    ) -> Answer:
        """One request with a short body and a short answer. Raises `PeerUnreachable`.

        `is_kept`: on a connection that waits for the next one; only for what may be asked twice,
        since the other side may close it at the very moment it is used again.
        """
        fields = {"Content-Length": str(len(body)), **(headers or {})}
        data = request_head(url, method, path, fields) + body
        try:
            async with asyncio.timeout(timeout_seconds):
                kept = self._kept.take(url) if is_kept else None
                if kept is not None:
                    try:
                        return await self._ask(kept, url, data, is_kept)
                    except PeerUnreachable:
                        pass  # closed under it
                return await self._ask(await self.open(url), url, data, is_kept)
        except TimeoutError:
            raise PeerUnreachable(f"{method} {url}{path}: timed out") from None

    async def _ask(self, exchange: Exchange, url: str, data: bytes, is_kept: bool) -> Answer:
        try:
            assert exchange.transport is not None
            exchange.transport.write(data)
            answer = await exchange.answer
        except BaseException:
            close(exchange)
            raise
        if is_kept:
            self._kept.keep(url, exchange)
        else:
            close(exchange)
        return answer

    def stop(self) -> None:
        """Let the connections go that wait for another request."""
        self._kept.stop()

    async def upload(
        self,
        url: str,
        path: str,
        headers: Mapping[str, str],
        pieces: AsyncIterator[bytes],
        answer_seconds: float,
        stall_seconds: float = SNAPSHOT_STALL_SECONDS,
    ) -> Answer:
        """POST a body that is made while it is sent. Raises `PeerUnreachable`."""
        exchange = await self.open(url)
        try:
            fields = {"Transfer-Encoding": "chunked", **headers}
            await exchange.write(request_head(url, "POST", path, fields), stall_seconds)
            async for piece in pieces:
                if piece:
                    await exchange.write(b"%x\r\n%b\r\n" % (len(piece), piece), stall_seconds)
            await exchange.write(b"0\r\n\r\n", stall_seconds)
            async with asyncio.timeout(answer_seconds):
                return await exchange.answer
        except TimeoutError:
            raise PeerUnreachable(f"POST {url}{path}: no answer") from None
        finally:
            close(exchange)


def close(exchange: Exchange) -> None:
    """Let a connection go; nobody asks for its answer any more."""
    if exchange.answer.done():
        if not exchange.answer.cancelled():
            exchange.answer.exception()  # seen
    else:
        exchange.answer.cancel()
    if exchange.transport is not None:
        exchange.transport.abort()


def request_head(url: str, method: str, path: str, headers: Mapping[str, str]) -> bytes:
    host = urlsplit(url).netloc or "localhost"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
