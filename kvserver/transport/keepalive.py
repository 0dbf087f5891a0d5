"""Pings in both directions: whose are too many, and when we ask whether the peer is alive.

spec/wire-api.md §3.3. A peer gets a strike for a ping that comes sooner than the minimum after
its last one, or, without an open stream, sooner than two hours; the third ends the connection.
Strikes are forgotten when we have sent HEADERS or DATA in between, because clients measure the
bandwidth of what they receive with pings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

STRIKES_MAX = 2
IDLE_PING_SECONDS_MIN = 7200.0
PING_PAYLOAD = b"keydeck\x00"
DRAIN_PAYLOAD = b"drain\x00\x00\x00"


class PingPolicy:
    __slots__ = ("_interval_min", "_last", "_strikes", "_without_stream")

    def __init__(self, interval_seconds_min: float, without_stream: bool) -> None:
        self._interval_min = interval_seconds_min
        self._without_stream = without_stream
        self._last = float("-inf")
        self._strikes = 0

    def too_many(self, now: float, output_seen: bool, has_streams: bool) -> bool:
        """A ping has come at `now`."""
        last, self._last = self._last, now
        if output_seen:
            self._strikes = 0
            return False
        if has_streams or self._without_stream:
            wanted = self._interval_min
        else:
            wanted = IDLE_PING_SECONDS_MIN
        if now - last < wanted:
            self._strikes += 1
        return self._strikes > STRIKES_MAX


class Keepalive:
    """Asks a silent peer after `idle_seconds`, gives up `timeout_seconds` later."""

    __slots__ = ("_idle_seconds", "_last_read", "_loop", "_lost", "_ping", "_timeout", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        idle_seconds: float,
        timeout_seconds: float,
        ping: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._idle_seconds = idle_seconds
        self._timeout = timeout_seconds
        self._ping = ping
        self._lost = lost
        self._last_read = loop.time()
        self._timer = loop.call_later(idle_seconds, self._look)

    def heard(self) -> None:
        self._last_read = self._loop.time()

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        silent = self._loop.time() - self._last_read
        if silent < self._idle_seconds:
            self._timer = self._loop.call_later(self._idle_seconds - silent, self._look)
            return
        asked_at = self._loop.time()
        self._ping()
        self._timer = self._loop.call_later(self._timeout, self._give_up, asked_at)

    def _give_up(self, asked_at: float) -> None:
        if self._last_read < asked_at:
            self._lost()
        else:
            self._look()
