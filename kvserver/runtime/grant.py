"""The hand-over between the loop and the flush thread.

py-lmdb gives the GIL up around every call, and a thread that gives it up beside a busy loop gets it
back only after the switch interval: a flush of 10 000 records would take seconds. So the thread
asks for a turn, and the loop, in a callback of its own, lets it go and stands still until the slice
is done: no contention, 0.3 us a record, and the loop decides when.

    flush thread                         loop
    with grant:   ── call_soon_threadsafe ──>  … its other callbacks …
      (waits on _go)                           _hand_over: releases _go,
      slice of LMDB calls                        waits on _done (bounded)
    (releases _done)  ──────────────────────>  goes on

Invariants: one thread uses a grant; the loop stands still only between `_go` and `_done`, and never
longer than `seconds_max`; once `set_free` was called, or the loop has ended, nobody waits for
anybody.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

from kvserver.limits import GRANT_SECONDS_MAX

LOOP_CHECK_SECONDS = 0.5
"""How often a waiting thread looks whether its loop still runs."""


class SliceGrant:
    """`with grant:` in the flush thread; everything else belongs to the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds_max: float = GRANT_SECONDS_MAX
    ) -> None:
        self._loop = loop
        self._seconds_max = seconds_max
        self._go = threading.Lock()
        self._go.acquire()
        self._done = threading.Lock()
        self._done.acquire()
        self._is_free = False
        self._is_asked = False
        self._loop_waits = False
        self.slices_total = 0
        self.slices_overdue_total = 0
        """Slices that the loop did not wait for to the end: a cold page, or no core for us."""

    def __enter__(self) -> None:
        if self._is_free:
            return
        self._is_asked = True
        try:
            self._loop.call_soon_threadsafe(self._hand_over)
        except RuntimeError:  # the loop is closed
            self._is_free = True
            return
        while not self._go.acquire(timeout=LOOP_CHECK_SECONDS):
            if not self._loop.is_running():  # it ended without telling us
                self._is_free = True
                return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._loop_waits:
            self._loop_waits = False
            self._done.release()

    def set_free(self) -> None:
        """From now on slices run without asking: the loop is about to end (loop)."""
        self._is_free = True
        self._answer()

    def _hand_over(self) -> None:
        if not self._is_asked:  # freed meanwhile
            return
        self._done.acquire(blocking=False)  # left over from an overdue slice
        self.slices_total += 1
        self._loop_waits = True
        self._answer()
        if not self._done.acquire(timeout=self._seconds_max):
            self.slices_overdue_total += 1

    def _answer(self) -> None:
        if self._is_asked:
            self._is_asked = False
            self._go.release()
