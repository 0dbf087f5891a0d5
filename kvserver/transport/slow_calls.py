"""Unary calls that take long, told without a price for those that do not.

A few times per threshold the open calls are looked at. One that has been open for as long as the
threshold is told about when it ends; so a call may be told to have taken one interval less than it
did, and one that ends less than an interval beyond the threshold may be missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kvserver.transport.call import Call
from kvserver.transport.endpoint import Endpoint
from kvserver.transport.method import Handler, Method
from kvserver.transport.stream_layer import StreamLayer

LOOKS_PER_THRESHOLD = 2
"""With a threshold of 100 ms and a thousand open calls the looks take half a hundredth of the
loop's time; five times as many would be felt."""
INTERVAL_SECONDS_MIN = 0.01


@dataclass(frozen=True, slots=True)
class EndedCall:
    """A unary call whose end somebody wanted to know."""

    path: str
    peer: str
    took_seconds: float
    request: bytes
    code: int
    """gRPC's."""
    response: bytes | None
    """None unless the code is OK."""


Tell = Callable[[EndedCall], None]


class SlowCalls:
    """Owner: the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoints: Callable[[], Iterable[Endpoint]],
        threshold_seconds: float,
        tell: Tell,
    ) -> None:
        self._loop = loop
        self._endpoints = endpoints
        self._threshold_seconds = threshold_seconds
        self._interval_seconds = max(threshold_seconds / LOOKS_PER_THRESHOLD, INTERVAL_SECONDS_MIN)
        self._tell = tell
        self._seen: dict[Call, float] = {}
        """Open calls and when each was seen first; those that are watched have left."""
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = self._loop.call_later(self._interval_seconds, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stood_still(self, seconds: float) -> None:
        """The loop did something else for so long, and there were no looks: whoever is open now was
        open before that."""
        if seconds >= self._threshold_seconds:
            self._look_at_calls(seconds)

    def _look(self) -> None:
        self._look_at_calls(0.0)
        self.start()

    def _look_at_calls(self, seconds_before: float) -> None:
        now = self._loop.time()
        before, self._seen = self._seen, {}
        for call in self._open_calls():
            since = min(before.get(call, now), now - seconds_before)
            if now - since >= self._threshold_seconds:
                call.is_watched = True
                watch_end(call, since, self._tell)
            else:
                self._seen[call] = since

    def _open_calls(self) -> Iterable[Call]:
        for endpoint in self._endpoints():
            for connection in endpoint.connections:
                if isinstance(connection, StreamLayer):
                    for stream in connection.streams.values():
                        if isinstance(stream, Call) and not stream.done and not stream.is_watched:
                            yield stream


def watch_every_end(methods: Iterable[Method], tell: Tell) -> None:
    """From now on the end of every unary call is told about; for when somebody wants to read it."""

    def watched(handler: Handler) -> Handler:
        def watch(call: Any, body: bytes) -> Any:
            if isinstance(call, Call):  # those of the gateway are calls of another kind
                call.is_watched = True
                watch_end(call, call.connection.endpoint.loop.time(), tell)
            return handler(call, body)

        return watch

    for method in methods:
        if method.is_unary:
            method.handler = watched(method.handler)


def watch_end(call: Call, since: float, tell: Tell) -> None:
    """From now on the end of this one call is told about. `since` is loop time."""
    reply, settle = call.reply, call._settle

    def ended(code: int, response: bytes | None) -> None:
        # The closures and the call hold each other: let go.
        call.__dict__.pop("reply", None)
        call.__dict__.pop("_settle", None)
        took = call.connection.endpoint.loop.time() - since
        peer = call.peer.address if call.peer is not None else ""
        tell(EndedCall(call.method.path, peer, took, call.request, code, response))

    def watched_reply(body: bytes) -> None:
        if not call.done:
            reply(body)
            ended(0, body)

    def watched_settle(code: int) -> None:
        settle(code)
        ended(code, None)

    call.reply = watched_reply  # type: ignore[method-assign]
    call._settle = watched_settle  # type: ignore[method-assign]
