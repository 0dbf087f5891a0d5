"""One question put to members in turn until somebody answers it.

The first endpoint is asked at once; the next one when those before it have failed or have been
silent for `hedge_seconds`. What is late is not given up: of several answers under way the first
counts.

A member that is silent for that long is asked besides whether it is there at all. One that is not
(a stopped process, a network that swallows packets) is given up, and does not cost its caller the
whole deadline. One that is there is asked once more after `again_seconds`: a read that a follower
was asking of a leader who stopped is never answered, the next one is (etcd 3.4).
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from kvserver.client.config import Endpoint
from kvserver.client.failure import TRY_ANOTHER_MEMBER, code_of
from kvserver.clock import SystemClock

Begin = Callable[[Endpoint], Any]
"""Starts a call at an endpoint and gives its `grpc.Future`."""

AGAIN_SECONDS = 2.0
NEVER = float("inf")

monotonic = SystemClock().monotonic


@dataclass(slots=True)
class _Asked:
    endpoint: Endpoint
    doubted_at: float
    """When it is asked whether it is there."""


class Race:
    """Iterate it from one thread, stop when an outcome is good enough: what is still under way is
    cancelled then. `look` asks a member whether it is there; `is_there` reads the answer."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        begin: Begin,
        *,
        hedge_seconds: float,
        look: Begin | None = None,
        again_seconds: float = AGAIN_SECONDS,
    ) -> None:
        self._begin = begin
        self._look = look
        self._hedge_seconds = hedge_seconds
        self._again_seconds = again_seconds
        self._waiting = deque(endpoints)
        self._again: list[tuple[float, Endpoint]] = []
        self._running: dict[Any, _Asked] = {}
        self._looks: dict[Any, Any] = {}
        """Looks under way, and the call each is about."""
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._next_at = monotonic()

    def __iter__(self) -> Iterator[tuple[Endpoint, Any]]:
        """Calls that ended, in the order in which they did, each with its endpoint. In place of
        one whose member is not there the look that said so is given."""
        try:
            while self._waiting or self._running or self._again:
                self._start_what_is_due()
                outcome = self._next_outcome()
                if outcome is not None:
                    yield outcome
                    self._next_at = monotonic()  # not good enough: the next one is asked at once
        finally:
            for call in (*self._running, *self._looks):
                call.cancel()

    def ask_again(self, endpoint: Endpoint, seconds: float) -> None:
        """For who was given an outcome that will pass."""
        self._again.append((monotonic() + seconds, endpoint))

    def _start_what_is_due(self) -> None:
        now = monotonic()
        if self._waiting and (not self._running or now >= self._next_at):
            self._next_at = now + self._hedge_seconds
            self._ask(_Asked(self._waiting.popleft(), self._next_at))
        due = [endpoint for at, endpoint in self._again if now >= at]
        self._again = [(at, endpoint) for at, endpoint in self._again if now < at]
        for endpoint in due:
            self._ask(_Asked(endpoint, NEVER))
        if self._look is None:
            return
        for call, asked in self._running.items():
            if now >= asked.doubted_at:
                asked.doubted_at = NEVER
                look = self._look(asked.endpoint)
                self._looks[look] = call
                look.add_done_callback(self._ended.put)

    def _ask(self, asked: _Asked) -> None:
        call = self._begin(asked.endpoint)
        self._running[call] = asked
        call.add_done_callback(self._ended.put)

    def _next_outcome(self) -> tuple[Endpoint, Any] | None:
        try:
            ended = self._ended.get(timeout=self._patience())
        except queue.Empty:
            return None
        if ended in self._running:
            return self._running.pop(ended).endpoint, ended
        call = self._looks.pop(ended, None)
        if call not in self._running:
            return None
        if is_there(ended):
            self.ask_again(self._running[call].endpoint, self._again_seconds)
            return None
        call.cancel()
        return self._running.pop(call).endpoint, ended

    def _patience(self) -> float | None:
        """How long nothing but an end can happen; None: the calls have deadlines of their own."""
        due = [at for at, _ in self._again]
        if self._waiting:
            due.append(self._next_at)
        if self._look is not None:
            due += [asked.doubted_at for asked in self._running.values()]
        first = min(due, default=NEVER)
        return None if first == NEVER else max(0.0, first - monotonic())


def is_there(look: Any) -> bool:
    """What a look found, once it has ended. A refusal is an answer too."""
    try:
        look.result()
    except grpc.RpcError as error:
        return code_of(error) not in TRY_ANOTHER_MEMBER
    return True
