"""The Watch service: one hub stream per gRPC stream (spec/watch.md).

The transport's stream is the hub's sink. While it is not writable no further request is read, so
neither events nor answers can pile up. The client's half-close ends nothing (W13): the call lasts
until it is cancelled, the server stops, or a `hasleader` stream has no leader (W14).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol

from kvserver.errors import RequestError
from kvserver.limits import WATCH_PROGRESS_INTERVAL_SECONDS
from kvserver.proto import rpc_pb2
from kvserver.services.gate import Gate, parse
from kvserver.services.leader_guard import LeaderGuard
from kvserver.transport import Method, Stream
from kvserver.watch import Hub, WatchStream

PATH = "/etcdserverpb.Watch/Watch"
PROGRESS_JITTER = 0.1
"""Each stream's interval is longer by a random part of this (G1)."""

Authorize = Callable[[Stream, bytes, bytes], None]
"""Raises `RequestError` when the stream's user may not read [key, end) (spec/watch.md A1)."""

OnCreate = Callable[[Stream, rpc_pb2.WatchCreateRequest], None]
"""Told of every request for a watch, whatever became of it."""

_CODE_NAMES = {3: "InvalidArgument", 7: "PermissionDenied", 16: "Unauthenticated"}
"""How the reason of a refused create spells the codes that occur there."""


class WatchMember(Protocol):
    """What the service asks of the member."""

    @property
    def hub(self) -> Hub: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def schedule_hub(self) -> None:
        """Have the hub's `step` run soon, again and again while it returns True."""


class WatchService:
    """The handler of `etcdserverpb.Watch`. `random` gives numbers in [0, 1)."""

    def __init__(
        self,
        member: WatchMember,
        gate: Gate,
        guard: LeaderGuard,
        random: Callable[[], float],
        progress_interval_seconds: float = WATCH_PROGRESS_INTERVAL_SECONDS,
        authorize: Authorize | None = None,
        on_create: OnCreate | None = None,
    ) -> None:
        self._member = member
        self._gate = gate
        self._guard = guard
        self._random = random
        self._progress_interval_seconds = progress_interval_seconds
        self._authorize = authorize
        self._on_create = on_create

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        yield Method(PATH, "stream", self.watch, request_bytes_max)

    async def watch(self, stream: Stream) -> None:
        self._gate.open_stream(stream)
        watches = self._member.hub.open_stream(stream, self._refusals(stream))
        interval = self._progress_interval_seconds * (1 + PROGRESS_JITTER * self._random())
        ticker = ProgressTicker(self._member.loop, watches, interval)
        ended: asyncio.Future[None] = self._member.loop.create_future()
        if stream.metadata.get("hasleader") == "true":
            self._guard.add(stream, lambda: ended.set_result(None))
        try:
            await self._read(stream, watches)
            if not stream.done:  # half-closed (W13): now only the guard or a cancel ends it
                await ended
        finally:
            self._guard.discard(stream)
            ticker.cancel()
            watches.close()

    async def _read(self, stream: Stream, watches: WatchStream) -> None:
        member = self._member

        def resume() -> None:
            watches.resume()
            member.schedule_hub()

        stream.on_writable = resume
        async for body in stream:
            await self._gate.settle(stream)
            request = parse(rpc_pb2.WatchRequest, body)
            watches.request(request)
            if self._on_create is not None and request.HasField("create_request"):
                self._on_create(stream, request.create_request)
            if member.hub.has_work:
                member.schedule_hub()
            if not stream.writable:
                await stream.drain()

    def _refusals(self, stream: Stream) -> Callable[[bytes, bytes], str | None]:
        """The hub's question who may watch what, as the reason of a refusal (A1)."""
        authorize = self._authorize

        def refusal(key: bytes, end: bytes) -> str | None:
            if authorize is None:
                return None
            try:
                authorize(stream, key, end)
            except RequestError as error:
                name = _CODE_NAMES.get(error.code, "Unknown")
                return f"rpc error: code = {name} desc = {error.message}"
            return None

        return refusal


class ProgressTicker:
    """Runs a stream's progress at its interval, from the stream's start on (G1)."""

    __slots__ = ("_handle", "_interval_seconds", "_loop", "_watches")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, watches: WatchStream, interval_seconds: float
    ) -> None:
        self._loop = loop
        self._watches = watches
        self._interval_seconds = interval_seconds
        self._handle = loop.call_later(interval_seconds, self._tick)

    def cancel(self) -> None:
        self._handle.cancel()

    def _tick(self) -> None:
        self._handle = self._loop.call_later(self._interval_seconds, self._tick)
        self._watches.progress_tick()
