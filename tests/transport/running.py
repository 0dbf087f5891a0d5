"""A running server for the tests, and raw clients of it.

The loop's exception handler is an oracle: whatever reaches it fails the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import h2.config
import h2.connection
import h2.events

from kvserver.transport import (
    HttpRequest,
    HttpResponse,
    Method,
    RpcError,
    Server,
    TlsRefused,
    TransportLimits,
)

WAIT_SECONDS = 60.0
"""Only an upper bound for a test that hangs."""
REQUEST_BYTES_MAX = 2 * 1024 * 1024


def message(body: bytes, compressed: bool = False) -> bytes:
    return bytes((compressed,)) + len(body).to_bytes(4, "big") + body


class Service:
    """Handlers that the tests call, and what they saw."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.streams: list[Any] = []
        self.cancelled = asyncio.Event()
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()
        self.stream_ended: list[str] = []
        self.chunk = b"x"
        self.chunks = 0
        self.on_streaming: Any = None

    def echo(self, call: Any, body: bytes) -> bytes:
        self.calls.append(call)
        return body

    def later(self, call: Any, body: bytes) -> None:
        asyncio.get_running_loop().call_soon(call.reply, body)

    def never(self, call: Any, body: bytes) -> None:
        self.calls.append(call)
        call.on_cancel = self.cancelled.set
        self.arrived.set()

    def refuse(self, call: Any, body: bytes) -> bytes:
        raise RpcError(9, "etcdserver: no — 100% refused")

    def broken(self, call: Any, body: bytes) -> bytes:
        raise ZeroDivisionError

    def foreign(self, call: Any, body: bytes) -> bytes:
        raise OverflowError("a status of its own")

    async def slowly(self, call: Any, body: bytes) -> bytes:
        self.arrived.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return body

    async def bidi(self, stream: Any) -> None:
        self.streams.append(stream)
        self.arrived.set()
        try:
            async for body in stream:
                if body == b"fail":
                    raise RpcError(14, "as asked")
                if body == b"break":
                    raise ZeroDivisionError
                stream.send(body)
                await stream.drain()
        except asyncio.CancelledError:
            self.stream_ended.append("cancelled")
            self.cancelled.set()
            raise
        self.stream_ended.append("half-close")

    async def source(self, stream: Any) -> None:
        self.streams.append(stream)
        async for _ in stream:
            break
        for _ in range(self.chunks):
            stream.send(self.chunk)
            await stream.drain()

    async def silent(self, stream: Any) -> None:
        self.streams.append(stream)
        self.arrived.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def methods(self) -> list[Method]:
        unary = {
            "Echo": self.echo,
            "Later": self.later,
            "Never": self.never,
            "Refuse": self.refuse,
            "Broken": self.broken,
            "Foreign": self.foreign,
            "Slowly": self.slowly,
        }
        streams = {"Bidi": self.bidi, "Source": self.source, "Silent": self.silent}
        return [
            Method(f"/pkg.Svc/{name}", "unary", handler, REQUEST_BYTES_MAX)
            for name, handler in unary.items()
        ] + [
            Method(f"/pkg.Svc/{name}", "stream", handler, REQUEST_BYTES_MAX)
            for name, handler in streams.items()
        ]

    async def http(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/stream":
            return HttpResponse(
                200, {"content-type": "text/plain"}, self.pieces(), self.on_streaming
            )
        if request.path == "/broken":
            raise ZeroDivisionError
        if request.path == "/upload":
            assert request.chunks is not None
            size = 0
            async for piece in request.chunks:
                size += len(piece)
            return HttpResponse(200, {}, b"%d" % size)
        text = f"{request.method} {request.path} {request.query} {len(request.body)}"
        return HttpResponse(200, {"content-type": "text/plain"}, text.encode())

    async def pieces(self) -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"piece %d\n" % number


class Running:
    def __init__(self, server: Server, service: Service, port: int) -> None:
        self.server = server
        self.service = service
        self.port = port
        self.problems: list[Any] = []
        self.log: list[tuple[str, str, dict[str, Any]]] = []

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def until(self, condition: Any) -> None:
        """Lets the loop turn until `condition()` holds."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110 - nothing signals what tests wait for
                await asyncio.sleep(0)


class FixedTls:
    """One context for every handshake; `refusal`: nobody is let in, and why."""

    def __init__(self, context: Any, refusal: str = "") -> None:
        self._context = context
        self._refusal = refusal

    def context(self) -> Any:
        return self._context

    async def check(self, tls: Any, remote: str) -> None:
        if self._refusal:
            raise TlsRefused(self._refusal)

    def explain(self, error: BaseException) -> str:
        return str(error) or type(error).__name__


@asynccontextmanager
async def running(
    limits: TransportLimits | None = None, ssl: Any = None, **options: Any
) -> AsyncIterator[Running]:
    loop = asyncio.get_running_loop()
    service = Service()
    entries: list[tuple[str, str, dict[str, Any]]] = []
    server = Server(
        service.methods(),
        service.http,
        limits or TransportLimits(),
        log=lambda level, text, fields: entries.append((level, text, fields)),
        error_status=lambda error: (11, str(error)) if isinstance(error, OverflowError) else None,
        wants_body_stream=lambda method, path: path == "/upload",
    )
    tls = FixedTls(ssl) if ssl is not None else None
    _, port = await server.listen_tcp("127.0.0.1", 0, tls, **options)
    run = Running(server, service, port)
    run.log = entries

    def problem(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # The gRPC client shares one poller among all loops of a process, also closed ones.
        if "PollerCompletionQueue" not in str(context.get("message")):
            run.problems.append(context)

    loop.set_exception_handler(problem)
    try:
        yield run
    finally:
        await server.drain(0)
    await run.until(lambda: server.open_connections == 0)
    assert run.problems == [], run.problems
    assert server.open_streams == 0


class H2Client:
    """The `h2` library as a client: every event is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.events: list[h2.events.Event] = []
        self.auto_window = True
        self.closed = False

    @classmethod
    async def connect(cls, port: int, ssl: Any = None) -> H2Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ssl)
        client = cls(reader, writer)
        client.h2.initiate_connection()
        client.flush()
        return client

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def request(
        self,
        path: str,
        body: bytes | None = None,
        extra: Iterable[tuple[str, str]] = (),
        end: bool = True,
        content_type: str = "application/grpc",
        method: str = "POST",
    ) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        headers = [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "test"),
            ("te", "trailers"),
            *([("content-type", content_type)] if content_type else []),
            *extra,
        ]
        self.h2.send_headers(stream_id, headers, end_stream=body is None and end)
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=end)
        self.flush()
        return stream_id

    async def until(self, condition: Any) -> None:
        """Reads until `condition(events)`; the connection's end is an end too."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition(self.events):
                data = await self.reader.read(65_536)
                if not data:
                    self.closed = True
                    return
                events = self.h2.receive_data(data)
                for event in events:
                    if isinstance(event, h2.events.DataReceived) and self.auto_window:
                        self.h2.acknowledge_received_data(
                            event.flow_controlled_length, event.stream_id
                        )
                self.events += events
                self.flush()

    async def ended(self, stream_id: int) -> None:
        kinds = (h2.events.StreamEnded, h2.events.StreamReset)
        await self.until(
            lambda events: any(isinstance(e, kinds) and e.stream_id == stream_id for e in events)
        )

    async def answer(self, stream_id: int) -> tuple[dict[str, str], bytes]:
        """All header fields, trailers included, and the DATA of a finished stream."""
        await self.ended(stream_id)
        return self.fields(stream_id), self.data(stream_id)

    def fields(self, stream_id: int) -> dict[str, str]:
        fields: dict[str, str] = {}
        for event in self.events:
            kinds = (h2.events.ResponseReceived, h2.events.TrailersReceived)
            if isinstance(event, kinds) and event.stream_id == stream_id:
                fields.update(event.headers)
        return fields

    def data(self, stream_id: int) -> bytes:
        return b"".join(
            e.data
            for e in self.events
            if isinstance(e, h2.events.DataReceived) and e.stream_id == stream_id
        )

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


async def wait_for(event: asyncio.Event) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        await event.wait()
