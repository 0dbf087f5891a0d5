"""A request's body that must go on coming. Owner: the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from kvserver.errors import KeydeckError


class PacedBody:
    """The pieces as they come. A sender that lost power says no farewell: whoever waits for its
    next piece would wait until the network's own patience ends, hours later."""

    def __init__(self, chunks: AsyncIterator[bytes], stall_seconds: float) -> None:
        self._chunks = chunks
        self._stall_seconds = stall_seconds

    def __aiter__(self) -> PacedBody:
        return self

    async def __anext__(self) -> bytes:
        """Raises `KeydeckError` when nothing has come for so long, or the sender has gone."""
        try:
            async with asyncio.timeout(self._stall_seconds):
                return await anext(self._chunks)
        except TimeoutError:
            raise KeydeckError("nothing came for too long") from None
        except ConnectionResetError as error:
            raise KeydeckError(str(error)) from None
