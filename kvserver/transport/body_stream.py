"""A request body handed over while it arrives, for handlers that do not wait for its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class BodyStream:
    """Async iterator of pieces. `taken(n)` tells the connection that n bytes were read."""

    __slots__ = ("_closed", "_ended", "_loop", "_pieces", "_taken", "_waiter", "held_bytes")

    def __init__(self, loop: asyncio.AbstractEventLoop, taken: Callable[[int], None]) -> None:
        self._loop = loop
        self._taken = taken
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self.held_bytes = 0

    def feed(self, data: bytes) -> None:
        if data and not self._ended:
            self._pieces.append(data)
            self.held_bytes += len(data)
            self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def fail(self) -> None:
        """The peer went away in the middle: the reader gets ConnectionResetError."""
        self._closed = not self._ended
        self.end()

    def __aiter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._closed:
                raise ConnectionResetError("the request body was cut off")
            if self._ended:
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            await self._waiter
        piece = self._pieces.popleft()
        self.held_bytes -= len(piece)
        self._taken(len(piece))
        return piece

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
