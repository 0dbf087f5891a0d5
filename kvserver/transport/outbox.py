"""Connections that have something to send, until the end of what the loop does just now."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Sender(Protocol):
    def flush(self) -> None: ...


class Outbox:
    """One for all listeners of a server. What is added in one go leaves in one write per
    connection: in the loop's next round, or before, when somebody knows that no more is coming and
    calls `flush`: that round begins with a look at every socket. Owner: the loop."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Sender] = []

    def add(self, sender: Sender) -> None:
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(sender)

    def flush(self) -> None:
        waiting = self._waiting
        if waiting:
            self._waiting = []
            for sender in waiting:
                sender.flush()
