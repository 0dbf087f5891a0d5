"""Calls: a request in JSON, a handler, its replies in JSON (spec/wire-api.md §4.2, §4.3).

A stream's HTTP status is known with its first message, so nothing is sent before that, and the
first line may be long in coming. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from google.protobuf.message import Message

from kvserver.errors import Code, RequestError
from kvserver.services.gateway import answers
from kvserver.services.gateway.bindings import Binding, bindings
from kvserver.services.gateway.lines import Lines
from kvserver.services.gateway.metadata import metadata_of, timeout_of
from kvserver.services.gateway.objects import ObjectCutter
from kvserver.services.gateway.reading import decode
from kvserver.services.gateway.writing import encode_in_slices
from kvserver.services.in_process import InnerCall, InnerStream, Log, status_of
from kvserver.transport import HttpRequest, HttpResponse, Method

JSON_BYTES_PER_BYTE = 2
"""How much longer than a message its JSON may be: base64 takes a third, names the rest."""


class Gateway:
    """Answers requests for paths below /v3/."""

    def __init__(self, methods: Iterable[Method], log: Log) -> None:
        self._bindings = bindings(methods)
        self._log = log

    def wants_body_stream(self, path: str) -> bool:
        """Whether the path's requests are answered while their body still arrives."""
        binding = self._bindings.get(path)
        return binding is not None and binding.is_stream

    async def answer(self, path: str, request: HttpRequest) -> HttpResponse:
        binding = self._bindings.get(path)
        if binding is None:
            return answers.not_found()
        if request.method != "POST":
            return answers.not_allowed()
        method = binding.method
        if method is None:
            service, _, name = binding.name.partition("/")
            text = f"unknown method {name} for service {service}"
            return answers.refusal(Code.UNIMPLEMENTED, text)
        try:
            if binding.is_stream:
                return await self._stream(binding, method, request)
            return await self._unary(binding, method, request)
        except Exception as error:
            return answers.refusal(*status_of(error, method.path, self._log))

    # -- unary

    async def _unary(self, binding: Binding, method: Method, request: HttpRequest) -> HttpResponse:
        seconds = timeout_of(request)
        body = _request(binding, method, request.body)
        call = InnerCall(metadata_of(request), request.peer, method)
        if seconds is not None:
            call.deadline = asyncio.get_running_loop().time() + seconds
        reply = await call.run(body)
        json = await encode_in_slices(binding.response.FromString(reply))
        return HttpResponse(200, answers.GOOD, json)

    # -- streams

    async def _stream(self, binding: Binding, method: Method, request: HttpRequest) -> HttpResponse:
        seconds = timeout_of(request)
        requests = _requests(binding, method, request)
        first = await anext(requests, None)
        if first is None and not binding.takes_many:
            first = b""
        rest = requests if binding.takes_many else _nothing()
        stream = InnerStream(metadata_of(request), request.peer, _chain(first, rest), method)
        lines = Lines(stream, binding.response, self._log)
        stream.start(method.handler(stream), seconds)
        try:
            return await lines.response()
        except BaseException:
            stream.close()
            raise


def _request(binding: Binding, method: Method, json: bytes) -> bytes:
    """A request's JSON as the bytes that the handler expects. Raises `RequestError`."""
    size_max = method.request_bytes_max
    if len(json) > size_max * JSON_BYTES_PER_BYTE:
        raise _too_large(len(json), size_max * JSON_BYTES_PER_BYTE)
    message: Message = decode(binding.request, json)
    body = message.SerializeToString()
    if len(body) > size_max:
        raise _too_large(len(body), size_max)
    return body


def _too_large(size: int, size_max: int) -> RequestError:
    text = f"grpc: received message larger than max ({size} vs. {size_max})"
    return RequestError(text, Code.RESOURCE_EXHAUSTED)


async def _requests(binding: Binding, method: Method, request: HttpRequest) -> AsyncIterator[bytes]:
    """The requests of a body. One that is bad is told if it is the first; later it only ends the
    client's side, because the answer has begun."""
    cutter = ObjectCutter(method.request_bytes_max * JSON_BYTES_PER_BYTE)
    is_first = True
    try:
        async for piece in _pieces(request):
            for json in cutter.feed(piece):
                yield _request(binding, method, json)
                is_first = False
        cutter.end()
    except ConnectionResetError:
        return
    except RequestError:
        if is_first:
            raise


async def _pieces(request: HttpRequest) -> AsyncIterator[bytes]:
    if request.chunks is None:
        yield request.body
        return
    async for piece in request.chunks:
        yield piece


async def _chain(first: bytes | None, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first is not None:
        yield first
    async for body in rest:
        yield body


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
