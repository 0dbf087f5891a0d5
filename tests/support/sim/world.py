"""The simulated world: one time, one queue of what happens, one trace.

Everything that happens is a callback of somebody (a `Loop`): of a member's process, of the clients,
of the network. They run one after the other in the order of their times, first come first served
among equals, so one seed is one run. Between two callbacks anything may end a process.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

STEPS_MAX = 20_000_000
"""Callbacks of one run; more means that somebody spins."""


class Death(BaseException):
    """The process that runs ends here and now. Not an Exception: nobody may handle it."""


class Violation(AssertionError):
    """Something that must hold does not."""


class _Everybody:
    """Whose callbacks always run."""

    is_dead = False
    paused = None


EVERYBODY = _Everybody()


class Handle:
    """A callback that will run; what asyncio calls a (Timer)Handle."""

    __slots__ = ("args", "callback", "is_cancelled", "owner")

    def __init__(self, owner: Any, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.owner = owner
        self.callback = callback
        self.args = args
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled


class World:
    """Owner: the run."""

    def __init__(self, seed: int, *, keeps_trace: bool = False) -> None:
        self.seed = seed
        self.now = 0.0
        self.steps = 0
        self.running: Any = None
        """Whose callback runs."""
        self.lines: list[str] | None = [] if keeps_trace else None
        self._digest = hashlib.sha256()
        self._soon: deque[Handle] = deque()
        self._later: list[tuple[float, int, Handle]] = []
        self._sequence = 0

    def chance(self, purpose: str) -> random.Random:
        """A source of chance of its own for each purpose, so that one does not shift the other."""
        return random.Random(f"{self.seed}/{purpose}")

    # -- what happens

    def call_soon(self, owner: Any, callback: Callable[..., Any], *args: Any) -> Handle:
        handle = Handle(owner, callback, args)
        self._soon.append(handle)
        return handle

    def call_at(self, when: float, owner: Any, callback: Callable[..., Any], *args: Any) -> Handle:
        handle = Handle(owner, callback, args)
        self._sequence += 1
        heappush(self._later, (when, self._sequence, handle))
        return handle

    def call_later(
        self, seconds: float, owner: Any, callback: Callable[..., Any], *args: Any
    ) -> Handle:
        return self.call_at(self.now + seconds, owner, callback, *args)

    def fail(self, what: str) -> None:
        """A violation where the code that runs would take an exception for its own."""

        def fail() -> None:
            raise Violation(what)

        self.call_soon(EVERYBODY, fail)

    def release(self, handles: list[Handle]) -> None:
        """What a paused process could not run; it does so now, in the same order."""
        self._soon.extend(handles)

    def run_until(self, end: float, condition: Callable[[], bool] | None = None) -> None:
        """Let things happen until `end`, or until the condition holds."""
        soon, later = self._soon, self._later
        before = asyncio._get_running_loop()
        try:
            while True:
                if soon:
                    handle = soon.popleft()
                elif later and later[0][0] <= end:
                    if condition is not None and condition():
                        return
                    when, _, handle = heappop(later)
                    self.now = max(self.now, when)
                else:
                    self.now = max(self.now, end)
                    return
                if not handle.is_cancelled:
                    self._run(handle)
        finally:
            self.running = None
            asyncio._set_running_loop(before)

    def _run(self, handle: Handle) -> None:
        owner = handle.owner
        if owner.is_dead:
            return
        if owner.paused is not None:
            owner.paused.append(handle)
            return
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Violation(f"more than {STEPS_MAX} steps: somebody spins")
        if self.running is not owner:
            self.running = owner
            asyncio._set_running_loop(owner)
        try:
            handle.callback(*handle.args)
        except Death as death:
            owner.on_death(str(death))
        except Violation:
            raise
        except Exception as error:
            owner.on_failure(error)

    # -- the trace

    def trace(self, who: str, what: str) -> None:
        """One line: simulated time, who, what."""
        if self.lines is not None:
            line = f"{self.now:11.6f} {who:<4} {what}"
            self._digest.update(line.encode())
            self.lines.append(line)

    @property
    def trace_hash(self) -> str:
        return self._digest.hexdigest()
