"""Connections to other members that wait for the next request (spec/peer.md §3.4): a real member
closes one after five idle seconds, so ours go before that. Owner: the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvserver.limits import PEER_KEPT_PER_URL_MAX, PEER_KEPT_SECONDS_MAX

if TYPE_CHECKING:
    from kvserver.peers.client import Exchange


class KeptConnections:
    """Idle connections by URL, the one used last on top."""

    def __init__(self, loop: asyncio.AbstractEventLoop, close: Callable[[Exchange], None]) -> None:
        self._loop = loop
        self._close = close
        self._idle: dict[str, list[tuple[float, Exchange]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def take(self, url: str) -> Exchange | None:
        """One that is still open, ready for a request."""
        idle = self._idle.get(url)
        while idle:
            _, exchange = idle.pop()
            if exchange.is_open:
                exchange.renew()
                return exchange
        return None

    def keep(self, url: str, exchange: Exchange) -> None:
        idle = self._idle.setdefault(url, [])
        if self._is_stopped or len(idle) >= PEER_KEPT_PER_URL_MAX or not exchange.is_open:
            self._close(exchange)
            return
        idle.append((self._loop.time(), exchange))
        if self._timer is None:
            self._timer = self._loop.call_later(PEER_KEPT_SECONDS_MAX, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        before = self._loop.time() - PEER_KEPT_SECONDS_MAX
        for url in list(self._idle):
            idle = self._idle[url]
            while idle and idle[0][0] <= before:
                self._close(idle.pop(0)[1])
            if not idle:
                del self._idle[url]
        if self._idle:
            oldest = min(idle[0][0] for idle in self._idle.values())
            self._timer = self._loop.call_later(oldest - before, self._sweep)

    def stop(self) -> None:
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for idle in self._idle.values():
            for _, exchange in idle:
                self._close(exchange)
        self._idle.clear()
