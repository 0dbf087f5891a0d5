"""Streams opened with `hasleader: true` end when there is no leader for long (spec/watch.md M2).

The member is looked at once per election timeout, and only while such streams are open; after
three looks in a row without a leader they all end with the error that the opening would have met.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from kvserver import errors

LEADERLESS_LOOKS_MAX = 3


class LeaderState(Protocol):
    @property
    def has_leader(self) -> bool: ...


class Ending(Protocol):
    """A stream, as the guard sees it."""

    def fail(self, code: int, message: str) -> None: ...


class LeaderGuard:
    """The open streams that want a leader. Owner: the loop."""

    def __init__(
        self, member: LeaderState, loop: asyncio.AbstractEventLoop, election_timeout_seconds: float
    ) -> None:
        self._member = member
        self._loop = loop
        self._seconds = election_timeout_seconds
        self._streams: dict[Ending, Callable[[], None]] = {}
        self._leaderless = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stream: Ending, ended: Callable[[], None] = lambda: None) -> None:
        """Watch over a stream; `ended` is called after the guard has ended it."""
        self._streams[stream] = ended
        if self._timer is None:
            self._leaderless = 0
            self._timer = self._loop.call_later(self._seconds, self._run)

    def discard(self, stream: Ending) -> None:
        self._streams.pop(stream, None)
        if not self._streams and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """One look; ends the streams if it is one too many without a leader."""
        self._leaderless = 0 if self._member.has_leader else self._leaderless + 1
        if self._leaderless < LEADERLESS_LOOKS_MAX:
            return
        for stream, ended in list(self._streams.items()):
            self.discard(stream)
            stream.fail(errors.NoLeader.code, errors.NoLeader.message)
            ended()

    def _run(self) -> None:
        self._timer = self._loop.call_later(self._seconds, self._run)
        self.look()
