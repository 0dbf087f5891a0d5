"""HTTP/1.x on the same port: parsing by httptools, one worker task per connection.

Requests are answered in the order they came (pipelining); reading pauses while enough of them
wait. Invariants: the head and the body of a request are bounded while they are read; after a
protocol error or an oversized request the connection closes behind its answer. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque

import httptools

from kvserver.transport.body_stream import BodyStream
from kvserver.transport.endpoint import Endpoint
from kvserver.transport.http_message import HttpRequest, HttpResponse
from kvserver.transport.http_respond import (
    BODILESS,
    close_body,
    reason_phrase,
    respond,
    response_headers,
    text_response,
)
from kvserver.transport.peer import peer_of
from kvserver.transport.websocket import WebSocketConnection, as_post, is_handshake

Queued = tuple[HttpRequest | HttpResponse, bool]
"""A request, or the refusal that stands in for one; and whether the connection stays open."""


class Http1Connection(asyncio.Protocol):
    def __init__(self, endpoint: Endpoint, transport: asyncio.Transport) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self.peer = peer_of(transport)
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Queued] = deque()
        self._task: asyncio.Task[None] | None = None
        self._refused = False
        self._draining = False
        self._paused_writing = False
        self._writable: asyncio.Future[None] | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._half_closed_timer: asyncio.TimerHandle | None = None
        self._is_streaming = False
        self._stream: BodyStream | None = None
        self._handshake: HttpRequest | None = None
        self._in_head = True
        self._head_bytes = 0
        self._reset_message()

    def start(self) -> None:
        self.endpoint.opened(self)
        self._arm_idle()

    # Connection, for the server

    @property
    def open_streams(self) -> int:
        return len(self._queue) + (self._task is not None)

    def begin_drain(self) -> None:
        self._draining = True
        if not self.open_streams:
            self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self.endpoint.counters.bytes_received += len(data)
        if self._refused:
            return
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Other protocols than WebSocket are not spoken here: answered as if not asked for.
            if self._handshake is not None:
                self._upgrade(self._handshake, data[upgrade.args[0] :])
                return
        except httptools.HttpParserError:
            self._refuse(400, "Bad Request")
        if self._in_head and self._head_bytes > self.endpoint.limits.http_header_bytes_max:
            self._refuse(431, "Request Header Fields Too Large")
        if len(self._queue) >= self.endpoint.limits.http_pipelined_max:
            self.transport.pause_reading()

    def eof_received(self) -> bool | None:
        if self._stream is not None:
            self._stream.fail()
        # A client may half-close and still wait for its answers, but most that close have gone:
        # an answer without an end stops at once, one that is long in coming does not come.
        self._draining = True
        if self._is_streaming or not self.open_streams:
            return False
        seconds = self.endpoint.limits.http_half_closed_seconds
        self._half_closed_timer = self.endpoint.loop.call_later(seconds, self.transport.close)
        return True

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._queue.clear()
        if self._stream is not None:
            self._stream.fail()
        for timer in (self._idle_timer, self._half_closed_timer):
            if timer is not None:
                timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self.endpoint.lost(self)

    # httptools callbacks

    def _reset_message(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._fields_bytes = 0

    def on_message_begin(self) -> None:
        self._reset_message()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_field(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_field(len(name) + len(value) + 4)
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers = self._headers
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._refused:
            return
        if self.endpoint.websocket_refusal is not None and not self.open_streams:
            request = self._request(b"", None)
            if is_handshake(request):
                self._handshake = request
                return
        length = self._headers.get("content-length", "")
        limits = self.endpoint.limits
        method = self._parser.get_method().decode("latin-1")
        path = self._url.partition(b"?")[0].decode("latin-1")
        wants_stream = self.endpoint.wants_body_stream
        streamed = wants_stream is not None and wants_stream(method, path)
        if length.isdigit() and int(length) > limits.http_body_bytes_max and not streamed:
            self._refuse(413, "Request Entity Too Large")
            return
        if self._headers.get("expect", "").lower() == "100-continue" and not self.open_streams:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if streamed:
            self._stream = BodyStream(self.endpoint.loop, self._body_taken)
            self._enqueue(self._request(b"", self._stream))

    def on_body(self, body: bytes) -> None:
        if self._stream is not None:
            self._stream.feed(body)
            if self._stream.held_bytes > self.endpoint.limits.stream_window_bytes:
                self.transport.pause_reading()
            return
        self._body_bytes += len(body)
        if self._body_bytes > self.endpoint.limits.http_body_bytes_max:
            self._refuse(413, "Request Entity Too Large")
        if not self._refused:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        if self._handshake is not None:
            return
        if self._stream is not None:
            self._stream.end()
            self._stream = None
        elif not self._refused:
            self._enqueue(self._request(b"".join(self._body), None))
        self._body = []

    def _count_field(self, size: int) -> None:
        self._fields_bytes += size
        if self._fields_bytes > self.endpoint.limits.http_header_bytes_max:
            self._refuse(431, "Request Header Fields Too Large")

    def _body_taken(self, size: int) -> None:
        if self._stream is not None and (
            self._stream.held_bytes <= self.endpoint.limits.stream_window_bytes // 2
        ):
            self.transport.resume_reading()

    def _request(self, body: bytes, chunks: BodyStream | None) -> HttpRequest:
        path, _, query = self._url.decode("latin-1").partition("?")
        if not path.startswith("/") and "://" in path:  # absolute form, as proxies send it
            path = "/" + path.partition("://")[2].partition("/")[2]
        method = self._parser.get_method().decode("latin-1")
        return HttpRequest(method, path, query, self._headers, body, self.peer, chunks)

    def _upgrade(self, request: HttpRequest, rest: bytes) -> None:
        """From here on the connection is a WebSocket's, unless it is refused."""
        assert self.endpoint.websocket_refusal is not None
        refusal = self.endpoint.websocket_refusal(as_post(request))
        if refusal is not None:
            self._refused = True
            self._put(refusal, keep_alive=False)
            return
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        lines = [f"GET {self._url.decode('latin-1')} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        socket = WebSocketConnection(self.endpoint, self.transport, request, head)
        self.endpoint.opened(socket)
        self.endpoint.lost(self)
        self.transport.set_protocol(socket)
        if rest:
            socket.data_received(rest)

    # Answers

    def _refuse(self, status: int, message: str) -> None:
        """Answers in the place of the request at hand; nothing after it is read."""
        if not self._refused:
            self._refused = True
            self._put(text_response(status, message), keep_alive=False)

    def _enqueue(self, request: HttpRequest) -> None:
        self._put(request, bool(self._parser.should_keep_alive()))

    def _put(self, item: HttpRequest | HttpResponse, keep_alive: bool) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._queue.append((item, keep_alive))
        if self._task is None:
            self._task = self.endpoint.loop.create_task(self._work())

    def _arm_idle(self) -> None:
        seconds = self.endpoint.limits.http_idle_seconds
        self._idle_timer = self.endpoint.loop.call_later(seconds, self.transport.close)

    async def _work(self) -> None:
        try:
            while self._queue:
                item, keep_alive = self._queue.popleft()
                if not self._queue:
                    self.transport.resume_reading()
                if not await self._answer(item, keep_alive):
                    self._queue.clear()
                    self.transport.close()
                    return
        finally:
            self._task = None
        self._arm_idle()

    async def _answer(self, item: HttpRequest | HttpResponse, keep_alive: bool) -> bool:
        """Sends one response; whether the connection goes on."""
        if isinstance(item, HttpRequest):
            response = await respond(self.endpoint, item)
            head_only = item.method == "HEAD"
        else:
            response, head_only = item, False
        keep_alive = keep_alive and not self._draining and not self.endpoint.draining
        if isinstance(response.body, bytes):
            self._write(self._head(response, head_only, keep_alive) + _shown(response, head_only))
        else:
            keep_alive = await self._stream_body(response, head_only, keep_alive)
        if self._paused_writing:
            await self._wait_writable()
        if isinstance(item, HttpRequest) and item.chunks is not None and self._stream is not None:
            return False  # the handler did not want the rest of the body
        return keep_alive

    async def _stream_body(self, response: HttpResponse, head_only: bool, keep_alive: bool) -> bool:
        assert not isinstance(response.body, bytes)
        self._write(self._head(response, head_only, keep_alive))
        self._is_streaming = True
        try:
            if not head_only:
                if response.on_streaming is not None:
                    response.on_streaming(self._write_piece)
                async for piece in response.body:
                    if piece:
                        self._write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    if self._paused_writing:
                        await self._wait_writable()
                self._write(b"0\r\n\r\n")
        except Exception as error:
            self.endpoint.log("error", "http handler failed", {"error": repr(error)})
            return False  # without the last chunk the client sees that something is missing
        finally:
            self._is_streaming = False
            await close_body(response.body)
        return keep_alive

    def _head(self, response: HttpResponse, head_only: bool, keep_alive: bool) -> bytes:
        lines = [f"HTTP/1.1 {response.status} {reason_phrase(response.status)}"]
        headers = response_headers(response, head_only)
        lines += [f"{_title(name)}: {value}" for name, value in headers]
        if not isinstance(response.body, bytes):
            lines.append("Transfer-Encoding: chunked")
        if not keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _write(self, data: bytes) -> None:
        self.endpoint.counters.bytes_sent += len(data)
        self.transport.write(data)

    def _write_piece(self, piece: bytes) -> bool:
        """One piece of the body that is being streamed, ahead of its iterator's next."""
        # Hot: once per message between members.
        if self._paused_writing or not self._is_streaming or self.transport.is_closing():
            return False
        data = b"%x\r\n%b\r\n" % (len(piece), piece)
        self.endpoint.counters.bytes_sent += len(data)
        self.transport.write(data)
        return True

    async def _wait_writable(self) -> None:
        self._writable = self.endpoint.loop.create_future()
        await self._writable


def _shown(response: HttpResponse, head_only: bool) -> bytes:
    hidden = head_only or response.status in BODILESS
    assert isinstance(response.body, bytes)
    return b"" if hidden else response.body


def _title(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))
