"""Deadlines of all calls on one coarse wheel: one timer for everybody.

A call is put into the slot in which its deadline falls and taken out again when it ends; both are
one set operation. Only slots have a place in time, so the loop holds at most one timer however
many calls wait. A deadline fires at the end of its slot: never early, late by one slot at most.
Owner: the loop.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from typing import Protocol

SLOTS_PER_SECOND = 100


class Expiring(Protocol):
    def expire(self) -> None: ...


class DeadlineWheel:
    __slots__ = ("_loop", "_order", "_slots", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Expiring]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deadline: float, call: Expiring) -> set[Expiring]:
        """Puts `call` into the slot of `deadline` (loop time); discard it there when it ends."""
        number = int(deadline * SLOTS_PER_SECOND) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = set()
            heappush(self._order, number)
            if self._order[0] == number:
                self._arm()
        slot.add(call)
        return slot

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._slots.clear()
        self._order.clear()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self._order[0] / SLOTS_PER_SECOND
        self._timer = self._loop.call_at(at, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._loop.time() * SLOTS_PER_SECOND
        # uvloop rounds timers to milliseconds: half a slot of tolerance keeps it from spinning.
        while self._order and self._order[0] <= now + 0.5:
            number = heappop(self._order)
            for call in tuple(self._slots.pop(number)):
                call.expire()
        if self._order and self._timer is None:
            self._arm()
