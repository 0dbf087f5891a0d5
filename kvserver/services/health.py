"""grpc.health.v1.Health on the client port (spec/wire-api.md §1.1).

Only the service name "" is known. It is SERVING from the start; whoever stops serving for a while
(a defragmentation, where that is configured) says so with `set_serving`.
"""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError

from kvserver.errors import Code
from kvserver.proto import health_pb2
from kvserver.transport import Call, Method, RpcError, Stream

_REQUEST_BYTES_MAX = 64 * 1024
_Status = health_pb2.HealthCheckResponse


def _response(status: int) -> bytes:
    return _Status(status=status).SerializeToString()  # type: ignore[arg-type]


_SERVING = _response(_Status.SERVING)
_NOT_SERVING = _response(_Status.NOT_SERVING)
_SERVICE_UNKNOWN = _response(_Status.SERVICE_UNKNOWN)


def _service_of(body: bytes) -> str:
    try:
        return health_pb2.HealthCheckRequest.FromString(body).service
    except DecodeError as error:
        raise RpcError(Code.INTERNAL, "grpc: the request is not a HealthCheckRequest") from error


class Health:
    def __init__(self) -> None:
        self._serving = True
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        return self._serving

    def set_serving(self, serving: bool) -> None:
        if serving != self._serving:
            self._serving = serving
            # Everyone who waits has the old event; those who come later wait on a new one.
            self._changed.set()
            self._changed = asyncio.Event()

    def check(self, call: Call, body: bytes) -> bytes:
        if _service_of(body):
            raise RpcError(Code.NOT_FOUND, "unknown service")
        return self._answer()

    async def watch(self, stream: Stream) -> None:
        """Sends the status now and at each change, until the caller goes away."""
        async for body in stream:
            known = not _service_of(body)
            break
        else:
            raise RpcError(Code.INTERNAL, "no message in the request")
        while True:
            changed = self._changed
            stream.send(self._answer() if known else _SERVICE_UNKNOWN)
            await (changed.wait() if known else asyncio.Event().wait())

    def methods(self) -> list[Method]:
        return [
            Method("/grpc.health.v1.Health/Check", "unary", self.check, _REQUEST_BYTES_MAX),
            Method("/grpc.health.v1.Health/Watch", "stream", self.watch, _REQUEST_BYTES_MAX),
        ]

    def _answer(self) -> bytes:
        return _SERVING if self._serving else _NOT_SERVING
