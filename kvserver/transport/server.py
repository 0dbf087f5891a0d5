"""Listeners and their end: what the composition root builds and starts. Owner: the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterable
from typing import Any

from kvserver.transport.accept import Accepted, Handshakes
from kvserver.transport.counters import Counters
from kvserver.transport.deadlines import DeadlineWheel
from kvserver.transport.endpoint import (
    Endpoint,
    ErrorStatus,
    HttpHandler,
    Log,
    WantsBodyStream,
    WebSocketRefusal,
)
from kvserver.transport.head import HeadFactory
from kvserver.transport.limits import TransportLimits
from kvserver.transport.method import Method
from kvserver.transport.outbox import Outbox
from kvserver.transport.slow_calls import SlowCalls, Tell
from kvserver.transport.tls import TlsSource

ALPN_PROTOCOLS = ["h2", "http/1.1"]
"""What the owner of an SSLContext passes to `set_alpn_protocols`."""
BACKLOG = 4096
_CLOSE_SECONDS = 0.5


def _no_log(level: str, message: str, fields: dict[str, Any]) -> None:
    """Nobody listens."""


class Server:
    """One set of methods on any number of listeners."""

    def __init__(
        self,
        methods: Iterable[Method],
        http_handler: HttpHandler | None = None,
        limits: TransportLimits | None = None,
        log: Log = _no_log,
        error_status: ErrorStatus | None = None,
        wants_body_stream: WantsBodyStream | None = None,
        kind: str = "client",
        websocket_refusal: WebSocketRefusal | None = None,
    ) -> None:
        """Without `websocket_refusal` no WebSocket is accepted."""
        self.counters = Counters()
        self._methods = {method.path: method for method in methods}
        for path, method in self._methods.items():
            self.counters.methods[path] = method.counters
        self._http_handler = http_handler
        self._limits = limits or TransportLimits()
        self._log = log
        self._error_status = error_status
        self._wants_body_stream = wants_body_stream
        self._kind = kind
        self._websocket_refusal = websocket_refusal
        self._wheel: DeadlineWheel | None = None
        self._outbox: Outbox | None = None
        self._listeners: list[asyncio.Server] = []
        self._socket_files: list[str] = []
        self._endpoints: list[Endpoint] = []
        self._changed: asyncio.Event | None = None
        self._slow: tuple[float, Tell] | None = None
        self._slow_calls: SlowCalls | None = None

    def flush(self) -> None:
        """What is answered by now leaves at once: no more comes in this turn."""
        if self._outbox is not None:
            self._outbox.flush()

    @property
    def open_streams(self) -> int:
        return sum(c.open_streams for e in self._endpoints for c in e.connections)

    @property
    def open_connections(self) -> int:
        return self.counters.connections_open

    async def listen_tcp(
        self,
        host: str,
        port: int,
        tls: TlsSource | None = None,
        serve_grpc: bool = True,
        serve_http: bool = True,
        *,
        reuse_address: bool = True,
        reuse_port: bool = False,
    ) -> tuple[str, int]:
        """Starts a listener; the address it is bound to."""
        loop = asyncio.get_running_loop()
        endpoint = self._endpoint(loop, tls is not None, serve_grpc, serve_http)
        handshakes = Handshakes()
        listener = await loop.create_server(
            lambda: Accepted(endpoint, tls, handshakes),
            host,
            port,
            backlog=BACKLOG,
            reuse_address=reuse_address,
            reuse_port=reuse_port,
        )
        self._endpoints.append(endpoint)
        self._listeners.append(listener)
        name = listener.sockets[0].getsockname()
        return name[0], name[1]

    async def listen_unix(
        self,
        path: str,
        tls: TlsSource | None = None,
        serve_grpc: bool = True,
        serve_http: bool = True,
    ) -> str:
        """At a socket file, which goes when the listener does."""
        loop = asyncio.get_running_loop()
        endpoint = self._endpoint(loop, tls is not None, serve_grpc, serve_http)
        handshakes = Handshakes()
        listener = await loop.create_unix_server(
            lambda: Accepted(endpoint, tls, handshakes), path, backlog=BACKLOG
        )
        self._endpoints.append(endpoint)
        self._listeners.append(listener)
        self._socket_files.append(path)
        return path

    def tell_slow_calls(self, threshold_seconds: float, tell: Tell) -> None:
        """From the first listener on, `tell` is called for unary calls that took longer."""
        self._slow = (threshold_seconds, tell)

    def stood_still(self, seconds: float) -> None:
        """The loop could not look at anything for so long."""
        if self._slow_calls is not None:
            self._slow_calls.stood_still(seconds)

    async def drain(self, grace_seconds: float) -> None:
        """Accepts nothing more, lets open calls end, then closes what is left."""
        if self._slow_calls is not None:
            self._slow_calls.stop()
        for listener in self._listeners:
            listener.close()
        self._remove_socket_files()
        self._changed = asyncio.Event()
        for endpoint in self._endpoints:
            endpoint.draining = True
            endpoint.closed = self._changed.set
            for connection in tuple(endpoint.connections):
                connection.begin_drain()
        await self._all_closed(grace_seconds)
        for endpoint in self._endpoints:
            for connection in tuple(endpoint.connections):
                connection.abort()
        await self._all_closed(_CLOSE_SECONDS)
        self._listeners.clear()
        if self._wheel is not None:
            self._wheel.close()

    def _remove_socket_files(self) -> None:
        for path in self._socket_files:
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    os.unlink(path)
        self._socket_files.clear()

    async def _all_closed(self, seconds: float) -> None:
        assert self._changed is not None
        try:
            async with asyncio.timeout(seconds):
                while any(endpoint.connections for endpoint in self._endpoints):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _endpoint(
        self,
        loop: asyncio.AbstractEventLoop,
        secure: bool,
        serve_grpc: bool,
        serve_http: bool,
    ) -> Endpoint:
        if self._wheel is None or self._outbox is None:
            self._wheel = DeadlineWheel(loop)
            self._outbox = Outbox(loop)
            if self._slow is not None:
                self._slow_calls = SlowCalls(loop, lambda: self._endpoints, *self._slow)
                self._slow_calls.start()
        # HTTP/2 without TLS is gRPC only (spec/wire-api.md §3.4).
        heads = HeadFactory(
            self._methods,
            self._limits.header_list_bytes_max,
            serve_grpc,
            serve_http and secure and self._http_handler is not None,
        )
        return Endpoint(
            loop,
            self._limits,
            self.counters,
            self._outbox,
            self._wheel,
            heads,
            self._http_handler if serve_http else None,
            self._log,
            self._error_status,
            self._wants_body_stream,
            serve_grpc,
            self._kind,
            self._websocket_refusal,
        )
