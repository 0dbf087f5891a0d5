"""Password hashing beside the loop: bcrypt gives the GIL up, so two threads of it hurt nobody.

What waits is bounded; beyond that a login is told to come again (spec/auth.md §1).
Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kvserver import errors
from kvserver.limits import HASH_THREADS, HASHES_PENDING_MAX

T = TypeVar("T")


class HashWorker:
    """Runs slow pure functions in threads of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="hash")
        self._pending = 0

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """`work(*arguments)`, off the loop. Raises what it raises."""
        if self._pending >= HASHES_PENDING_MAX:
            raise errors.RequestTooManyRequests
        self._pending += 1
        try:
            return await self._loop.run_in_executor(self._executor, work, *arguments)
        finally:
            self._pending -= 1

    def stop(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
