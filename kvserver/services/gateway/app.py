"""Everything HTTP on the client port: first the door, then the gateway or the plain endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from kvserver.services.gateway.door import Door
from kvserver.services.gateway.gateway import Gateway
from kvserver.transport import HttpRequest, HttpResponse

PREFIX = "/v3/"
OLD_PREFIX = "/v3beta/"
"""What etcd 3.3 called it (spec/wire-api.md §4.6)."""


class ClientApp:
    """`gateway` is None where --enable-grpc-gateway is off."""

    def __init__(
        self,
        door: Door,
        gateway: Gateway | None,
        plain: Callable[[HttpRequest], Awaitable[HttpResponse]],
    ) -> None:
        self._door = door
        self._gateway = gateway
        self._plain = plain

    def wants_body_stream(self, method: str, path: str) -> bool:
        gateway = self._gateway
        return gateway is not None and method == "POST" and gateway.wants_body_stream(_path(path))

    def websocket_refusal(self, request: HttpRequest) -> HttpResponse | None:
        """Of a handshake, seen as the request that it stands for. The paths of the gateway only;
        the same door, before a byte of the answer is sent."""
        path = _path(request.path)
        if self._gateway is None or not path.startswith(PREFIX):
            return HttpResponse(404, body=b"404 page not found\n")
        return self._door.refuse_host(request) or self._door.refuse_caller(request)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        refusal = self._door.refuse_host(request)
        if refusal is not None:
            return refusal
        response = await self._answer(request)
        cors = self._door.cors_headers(request)
        return replace(response, headers={**cors, **response.headers})

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        if request.method == "OPTIONS":
            return HttpResponse(200)
        path = _path(request.path)
        if self._gateway is None or not path.startswith(PREFIX):
            return await self._plain(request)
        refusal = self._door.refuse_caller(request)
        if refusal is not None:
            return refusal
        return await self._gateway.answer(path, request)


def _path(path: str) -> str:
    if path.startswith(OLD_PREFIX):
        return PREFIX + path[len(OLD_PREFIX) :]
    return path
