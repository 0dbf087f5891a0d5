"""What the connections of one listener share; built by the server, changed by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from kvserver.transport.counters import Counters
from kvserver.transport.deadlines import DeadlineWheel
from kvserver.transport.errors import INTERNAL, RpcError
from kvserver.transport.head import HeadFactory
from kvserver.transport.http_message import HttpRequest, HttpResponse
from kvserver.transport.limits import TransportLimits
from kvserver.transport.outbox import Outbox

Log = Callable[[str, str, dict[str, Any]], None]
"""(level, message, fields)"""
ErrorStatus = Callable[[BaseException], tuple[int, str] | None]
"""The gRPC status of an exception that is not an RpcError, or None if it has none."""
HttpHandler = Callable[[HttpRequest], Awaitable[HttpResponse]]
WantsBodyStream = Callable[[str, str], bool]
"""(method, path) -> whether the handler starts before the body has arrived."""


WebSocketRefusal = Callable[[HttpRequest], HttpResponse | None]
"""Why a handshake is refused, or None to accept it; asked before anything is answered."""


class Connection(Protocol):
    """What the server asks of a connection, whichever protocol it speaks."""

    @property
    def open_streams(self) -> int: ...
    def begin_drain(self) -> None: ...
    def abort(self) -> None: ...


class Endpoint:
    __slots__ = (
        "closed",
        "connections",
        "counters",
        "draining",
        "error_status",
        "heads",
        "http_handler",
        "kind",
        "limits",
        "log",
        "loop",
        "outbox",
        "serve_grpc",
        "wants_body_stream",
        "websocket_refusal",
        "wheel",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: TransportLimits,
        counters: Counters,
        outbox: Outbox,
        wheel: DeadlineWheel,
        heads: HeadFactory,
        http_handler: HttpHandler | None,
        log: Log,
        error_status: ErrorStatus | None = None,
        wants_body_stream: WantsBodyStream | None = None,
        serve_grpc: bool = True,
        kind: str = "client",
        websocket_refusal: WebSocketRefusal | None = None,
    ) -> None:
        self.loop = loop
        self.limits = limits
        self.counters = counters
        self.outbox = outbox
        self.wheel = wheel
        self.heads = heads
        self.http_handler = http_handler
        self.log = log
        self.error_status = error_status
        self.wants_body_stream = wants_body_stream
        self.serve_grpc = serve_grpc
        self.kind = kind
        """Who connects here, for the log: "client" or "peer"."""
        self.websocket_refusal = websocket_refusal
        self.connections: set[Connection] = set()
        self.draining = False
        self.closed: Callable[[], None] | None = None
        """Called after each connection that has ended."""

    def opened(self, connection: Connection) -> None:
        self.connections.add(connection)
        self.counters.connections_open += 1
        if self.draining:
            connection.begin_drain()

    def lost(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.discard(connection)
            self.counters.connections_open -= 1
            if self.closed is not None:
                self.closed()

    def status_of(self, error: BaseException, path: str) -> tuple[int, str]:
        """The status a handler's exception becomes; an unforeseen one is logged, never shown."""
        if isinstance(error, RpcError):
            return error.code, error.message
        if self.error_status is not None:
            status = self.error_status(error)
            if status is not None:
                return status
        self.log("error", "handler failed", {"method": path, "error": repr(error), "exc": error})
        return INTERNAL, "internal error"
