"""A plain HTTP request that came over HTTP/2 (TLS listeners, spec/wire-api.md §3.4)."""

from __future__ import annotations

import asyncio

from kvserver.transport import header_blocks
from kvserver.transport.body_stream import BodyStream
from kvserver.transport.errors import ENHANCE_YOUR_CALM, INTERNAL_ERROR
from kvserver.transport.http2_stream import Http2Stream
from kvserver.transport.http_message import HttpRequest, HttpResponse
from kvserver.transport.http_respond import (
    BODILESS,
    close_body,
    respond,
    response_headers,
    text_response,
)


class HttpExchange(Http2Stream):
    _task: asyncio.Task[None] | None = None
    _drained: asyncio.Future[None] | None = None
    _chunks: BodyStream | None = None
    _body: bytearray

    def start(self, ended: bool) -> None:
        self._body = bytearray()
        pseudo = {name: value.decode("latin-1") for name, value in self.head.fields}
        self._method, target = pseudo[b":method"], pseudo[b":path"]
        self._path, _, self._query = target.partition("?")
        wants_stream = self.connection.endpoint.wants_body_stream
        if wants_stream is not None and wants_stream(self._method, self._path):
            self._chunks = BodyStream(
                self.connection.loop, lambda size: self.connection.consumed(self, size)
            )
            self._run(b"")
        if ended:
            self.ended = True
            self.data(b"", True)

    def data(self, payload: bytes, ended: bool) -> None:
        if self.done:
            return
        if self._chunks is not None:
            self._chunks.feed(payload)
            if ended:
                self._chunks.end()
            return
        limits = self.connection.limits
        self._body += payload
        if len(self._body) > limits.http_body_bytes_max:
            self._send_whole(text_response(413, "Request Entity Too Large"))
            return
        if self.connection.hold(self, len(payload), ENHANCE_YOUR_CALM):
            self.connection.consumed(self, len(payload))
            if ended:
                self._run(bytes(self._body))

    def closed(self) -> None:
        self.cancelled = True
        self.done = True
        self._settle()
        if self._task is not None:
            self._task.cancel()

    def take(self, size: int) -> bytes:
        payload = super().take(size)
        if self.queued_bytes <= self.connection.limits.stream_low_water_bytes:
            self._release_drain()
        return payload

    def _settle(self) -> None:
        self.connection.received_bytes -= len(self._body)
        self._body = bytearray()
        if self._chunks is not None:
            self._chunks.fail()
        self._release_drain()

    def _release_drain(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _run(self, body: bytes) -> None:
        headers: dict[str, str] = {}
        for name, value in self.head.fields:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            if key == ":authority":
                key = "host"
            if not key.startswith(":"):
                headers[key] = f"{headers[key]}, {text}" if key in headers else text
        request = HttpRequest(
            self._method, self._path, self._query, headers, body, self.peer, self._chunks
        )
        self._task = self.connection.loop.create_task(self._serve(request))

    async def _serve(self, request: HttpRequest) -> None:
        response = await respond(self.connection.endpoint, request)
        if isinstance(response.body, bytes):
            self._send_whole(response)
            return
        try:
            self._send_head(response)
            async for piece in response.body:
                if piece:
                    self._queue_data(piece)
                if self.queued_bytes > self.connection.limits.stream_high_water_bytes:
                    self._drained = self.connection.loop.create_future()
                    await self._drained
        except Exception as error:
            self.connection.endpoint.log(
                "error", "http handler failed", {"path": self._path, "error": repr(error)}
            )
            if not self.done:
                self.connection.reset(self, INTERNAL_ERROR)
            return
        finally:
            await close_body(response.body)
        self._end()

    def _send_head(self, response: HttpResponse, end_stream: bool = False) -> None:
        fields = [
            (name.encode("latin-1"), value.encode("latin-1", "replace"))
            for name, value in response_headers(response, self._method == "HEAD")
            if name not in ("connection", "transfer-encoding")
        ]
        block = header_blocks.block(response.status, fields)
        self.connection.emit_headers(self.stream_id, block, end_stream)

    def _send_whole(self, response: HttpResponse) -> None:
        if self.done:
            return
        body = response.body
        assert isinstance(body, bytes)
        self._send_head(response)
        if body and self._method != "HEAD" and response.status not in BODILESS:
            self._queue_data(body)
        self._end()

    def _end(self) -> None:
        if not self.done:
            self.done = True
            self._settle()
            self._finish(b"")

    def _emit_trailers(self) -> None:
        # HTTP has no trailers here: an empty DATA frame ends the stream.
        self._trailers = None
        self.connection.emit_end(self.stream_id)
        self._ended_by_us()
