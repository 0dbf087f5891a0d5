"""Linearizable reads of one member: who waits, and the rounds that are asked of raft
(spec/kv.md E2). Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kvserver import errors
from kvserver.clock import Clock
from kvserver.limits import READ_RETRY_SECONDS
from kvserver.member.reads import Reader, ReadQueue
from kvserver.membership.ids import RequestIds
from kvserver.raft import RawNode
from kvserver.runtime.counters import Counters


class ReadDuty:
    """The queue of readers between the services and raft."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        node: RawNode,
        request_ids: RequestIds,
        counters: Counters,
        wake: Callable[[], None],
    ) -> None:
        self.queue = ReadQueue()
        self._loop = loop
        self._clock = clock
        self._node = node
        self._request_ids = request_ids
        self._counters = counters
        self._wake = wake

    def answer_later(self, call: Any, answer: Callable[[], bytes | None]) -> None:
        """Answer `call` when a linearizable read is possible."""

        def run(error: errors.RequestError | None) -> None:
            try:
                if error is not None:
                    raise error
                reply = answer()
            except errors.RequestError as refusal:
                call.fail(refusal.code, refusal.message)
            else:
                if reply is not None:
                    call.reply(reply)

        self._add(run)

    async def wait(self) -> None:
        """Until a linearizable read may run here. Raises `RequestError`."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._add(_settles(future))
        await future

    async def wait_applied(self, index: int) -> None:
        """Until `index` is applied here. Raises `RequestError`."""
        future: asyncio.Future[None] = self._loop.create_future()
        self.queue.add_confirmed(self._context(), _settles(future), index, self._clock.monotonic())
        await future

    def _add(self, run: Callable[[errors.RequestError | None], None]) -> None:
        self.queue.add(run, self._clock.monotonic())
        self._wake()

    def ask(self, now: float) -> None:
        """One round for everybody who waits, unless one is under way: the next one is theirs."""
        if self.queue.is_asking:
            return
        context = self._context()
        self.queue.open_round(context, now)
        self._node.read_index(context)

    def ask_again(self, now: float) -> None:
        """Reads whose question or answer went lost (spec/kv.md E2)."""
        for old in self.queue.unanswered(now - READ_RETRY_SECONDS):
            self._counters.slow_read_indexes += 1
            context = self._context()
            self.queue.ask_again(old, context, now)
            self._node.read_index(context)

    def _context(self) -> bytes:
        return self._request_ids.next().to_bytes(8, "big")


def _settles(future: asyncio.Future[None]) -> Reader:
    def run(error: errors.RequestError | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    return run
