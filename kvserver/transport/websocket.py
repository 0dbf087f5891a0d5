"""WebSockets as another dress of a streamed HTTP request: what comes in messages is the body of a
POST, and every line of the answer leaves as a text message.

The frames are the business of `websockets`' own protocol object, which does no I/O. It wants to
parse the handshake itself, so it is fed the head that HTTP/1.1 has parsed already. Invariants: what
a client sends ahead is bounded by a window; nothing is sent while the socket takes no more; the
handler is cancelled when the client goes. Owner: the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from kvserver.transport.body_stream import BodyStream
from kvserver.transport.endpoint import Endpoint
from kvserver.transport.http_message import HttpRequest, HttpResponse
from kvserver.transport.http_respond import close_body

NORMAL, GOING_AWAY, TOO_BIG, INTERNAL = 1000, 1001, 1009, 1011
BEARER = "Bearer"
TOKEN_COOKIE = "token"
PASSED = ("host", "origin", "referer", "sec-fetch-site")
"""What of the handshake's header reaches the handler; a page cannot set any other."""


def is_handshake(request: HttpRequest) -> bool:
    upgrade = request.headers.get("upgrade", "")
    return request.method == "GET" and upgrade.lower() == "websocket"


def as_post(request: HttpRequest) -> HttpRequest:
    """The request that the handler sees, without its body. A page names its token as the second
    subprotocol or in a cookie (spec/wire-api.md §4.3)."""
    headers = {name: request.headers[name] for name in PASSED if name in request.headers}
    headers["content-type"] = "application/json"
    token = _token(request)
    if token:
        headers["authorization"] = f"{BEARER} {token}"
    return HttpRequest("POST", request.path, request.query, headers, b"", request.peer)


def _token(request: HttpRequest) -> str:
    named = [part.strip() for part in request.headers.get("sec-websocket-protocol", "").split(",")]
    if len(named) == 2 and named[0] == BEARER:
        return named[1]
    for pair in request.headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == TOKEN_COOKIE:
            return value
    return ""


class WebSocketConnection(asyncio.Protocol):
    """A connection from its handshake on. Takes the transport over from `Http1Connection`."""

    def __init__(
        self, endpoint: Endpoint, transport: asyncio.Transport, request: HttpRequest, head: bytes
    ) -> None:
        self._endpoint = endpoint
        self._transport = transport
        self._request = request
        self._body = BodyStream(endpoint.loop, self._taken)
        self._fragments: list[bytes] = []
        self._writable: asyncio.Future[None] | None = None
        self._is_paused = False
        self._closing: asyncio.TimerHandle | None = None
        self._protocol = ServerProtocol(
            subprotocols=[Subprotocol(BEARER)],
            select_subprotocol=_bearer_if_offered,
            max_size=endpoint.limits.http_body_bytes_max,
        )
        self._protocol.receive_data(head)
        (handshake,) = self._protocol.events_received()
        assert isinstance(handshake, Request)
        answer = self._protocol.accept(handshake)
        self._protocol.send_response(answer)
        self._task: asyncio.Task[None] | None = None
        if answer.status_code == 101:
            self._task = endpoint.loop.create_task(self._serve())
        self._flush()

    # Connection, for the server

    @property
    def open_streams(self) -> int:
        return int(self._task is not None and not self._task.done())

    def begin_drain(self) -> None:
        self._close(GOING_AWAY, "the server stops")

    def abort(self) -> None:
        self._transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._endpoint.counters.bytes_received += len(data)
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._on_frame(event)
        self._flush()

    def eof_received(self) -> bool | None:
        self._protocol.receive_eof()
        self._flush()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._body.fail()
        if self._closing is not None:
            self._closing.cancel()
        if self._task is not None:
            self._task.cancel()
        self._endpoint.lost(self)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # In

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._body.end()
            return
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return  # pings are answered by the protocol
        self._fragments.append(bytes(frame.data))
        if not frame.fin:
            return
        message, self._fragments = b"".join(self._fragments), []
        self._body.feed(message)
        if self._body.held_bytes > self._endpoint.limits.stream_window_bytes:
            self._transport.pause_reading()

    def _taken(self, size: int) -> None:
        if self._body.held_bytes <= self._endpoint.limits.stream_window_bytes // 2:
            self._transport.resume_reading()

    # Out

    async def _serve(self) -> None:
        handler = self._endpoint.http_handler
        assert handler is not None
        code, reason = NORMAL, ""
        try:
            response = await handler(await self._whole_request())
            await self._send(response)
        except (ConnectionResetError, WebSocketException):
            return
        except Exception as error:
            fields = {"path": self._request.path, "error": repr(error), "exc": error}
            self._endpoint.log("error", "http handler failed", fields)
            code, reason = INTERNAL, "internal error"
        self._close(code, reason)

    async def _whole_request(self) -> HttpRequest:
        """A unary method's request is the first message; a stream's are all of them."""
        post = as_post(self._request)
        wants_stream = self._endpoint.wants_body_stream
        is_stream = wants_stream is not None and wants_stream("POST", post.path)
        body = b"" if is_stream else await anext(self._body, b"")
        chunks = self._body if is_stream else None
        return HttpRequest("POST", post.path, post.query, post.headers, body, post.peer, chunks)

    async def _send(self, response: HttpResponse) -> None:
        if isinstance(response.body, bytes):
            await self._send_lines(response.body)
            return
        try:
            async for piece in response.body:
                await self._send_lines(piece)
        finally:
            await close_body(response.body)

    async def _send_lines(self, piece: bytes) -> None:
        for line in piece.splitlines():
            if line:
                self._protocol.send_text(line)
                self._flush()
        if self._is_paused:
            self._writable = self._endpoint.loop.create_future()
            await self._writable

    def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(WebSocketException):  # it is closed, or closing
            self._protocol.send_close(code, reason)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._endpoint.counters.bytes_sent += len(data)
                self._transport.write(data)
            else:
                self._transport.close()  # behind what has been written
        if self._protocol.close_expected() and self._closing is None:
            seconds = self._endpoint.limits.http_half_closed_seconds
            self._closing = self._endpoint.loop.call_later(seconds, self._transport.close)


def _bearer_if_offered(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    return Subprotocol(BEARER) if BEARER in offered else None
