"""The replies of a stream, one JSON object a line (spec/wire-api.md §4.3)."""

from __future__ import annotations

from google.protobuf.message import Message

from kvserver.services.gateway import answers
from kvserver.services.gateway.writing import encode
from kvserver.services.in_process import InnerStream, Log, status_of
from kvserver.transport import HttpResponse


class Lines:
    """A response body. Closing it, as happens when the peer goes away, cancels the call."""

    def __init__(self, stream: InnerStream, response: type[Message], log: Log) -> None:
        self._stream = stream
        self._response = response
        self._log = log
        self._first = b""
        self._is_over = False

    async def response(self) -> HttpResponse:
        """With the first line, or with what was there instead of one."""
        try:
            body = await self._stream.take()
        except Exception as error:
            return answers.refused_stream(*self._status(error))
        if body is None:
            return HttpResponse(200, answers.JSON, b"")
        self._first = self._line(body)
        return HttpResponse(200, answers.GOOD, self)

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> bytes:
        """One line."""
        if self._is_over:
            raise StopAsyncIteration
        if self._first:
            line, self._first = self._first, b""
            return line
        try:
            body = await self._stream.take()
        except Exception as error:
            self._is_over = True
            return answers.stream_error(*self._status(error))
        if body is None:
            raise StopAsyncIteration
        return self._line(body)

    async def aclose(self) -> None:
        self._stream.close()

    def _line(self, body: bytes) -> bytes:
        return b'{"result":%b}\n' % encode(self._response.FromString(body))

    def _status(self, error: Exception) -> tuple[int, str]:
        assert self._stream.method is not None
        return status_of(error, self._stream.method.path, self._log)
