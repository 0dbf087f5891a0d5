"""Work that is too long for one turn: large ranges, hashes, compactions (design D6).

Each job is a stepper: `step()` does at most one slice and says whether it is done, `result()`
gives the outcome. The loop is free between slices; MVCC makes the answer the same.
Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from kvserver import errors
from kvserver.clock import Clock
from kvserver.limits import COMPACTION_SLEEP_SECONDS, SLOW_APPLY_SECONDS
from kvserver.logs import Logger
from kvserver.member.proposal import Waiter
from kvserver.metrics.histogram import Histogram, exponential


class Stepper(Protocol):
    """A job in slices."""

    def step(self) -> bool: ...


class Caller(Waiter, Protocol):
    """A waiter that may have gone."""

    @property
    def cancelled(self) -> bool: ...


class CompactionStepper(Stepper, Protocol):
    @property
    def revision(self) -> int: ...


class BackgroundFigures:
    """How long such work has taken, for the metrics."""

    def __init__(self) -> None:
        self.compaction_pause_ms = Histogram(exponential(1, 2, 13))
        self.index_pause_ms = Histogram(exponential(0.5, 2, 14))
        """The same pauses: index and records go in one step."""
        self.compaction_total_ms = Histogram(exponential(100, 2, 14))
        self.last_compaction_seconds = 0.0
        """Wall-clock seconds since the epoch."""
        self.hash_seconds = Histogram(exponential(0.01, 2, 15))
        self.hash_rev_seconds = Histogram(exponential(0.01, 2, 15))
        self.backup_seconds = Histogram(exponential(0.01, 2, 17))


class Background:
    """Runs steppers between other callbacks of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, log: Logger) -> None:
        self._loop = loop
        self._clock = clock
        self._log = log
        self._compactions: deque[CompactionStepper] = deque()
        self._compaction_waiters: list[Callable[[], None]] = []
        self._compaction_started = 0.0
        self._is_stopped = False
        self.figures = BackgroundFigures()
        self.history = 0
        """Counts how often the store was replaced: work on an older one is void."""
        self.warning_seconds = SLOW_APPLY_SECONDS
        self.compaction_sleep_seconds = COMPACTION_SLEEP_SECONDS
        self.on_compacted: Callable[[Callable[[], None]], None] = lambda done: done()
        """Told when compactions have finished; calls back once that is durable."""

    def stop(self) -> None:
        self._is_stopped = True

    def history_replaced(self) -> None:
        """A snapshot took the store's place: what looks at the old one ends, compactions too."""
        self.history += 1
        self._compactions.clear()
        waiters, self._compaction_waiters = self._compaction_waiters, []
        for waiter in waiters:
            self.on_compacted(waiter)

    def run(
        self,
        job: Stepper,
        call: Caller,
        reply: Callable[[], bytes],
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        """Step `job` until it is done, then answer `call` with `reply()`; `abandon` lets go of
        what the job has pinned when nobody waits for it any more."""
        self._loop.call_soon(_SlicedRun(self, job, call, reply, abandon).step)

    def again(self, run: _SlicedRun) -> None:
        self._loop.call_soon(run.step)

    def note_end(self, started: float) -> None:
        """A sliced read has been answered (spec/observability.md §6)."""
        took = self._clock.monotonic() - started
        if took > self.warning_seconds:
            self._log.warn(
                "apply request took too long",
                took=took,
                expected_duration=self.warning_seconds,
                prefix="read-only range ",
            )

    def now(self) -> float:
        return self._clock.monotonic()

    @property
    def is_stopped(self) -> bool:
        return self._is_stopped

    # -- compaction (spec/kv.md §9)

    def add_compaction(self, job: CompactionStepper) -> None:
        """Remove in batches what this compaction drops, after those before it."""
        self._compactions.append(job)
        if len(self._compactions) == 1:
            self._compaction_started = self._clock.monotonic()
            self._loop.call_soon(self._compact_some)

    def _compact_some(self) -> None:
        if self._is_stopped or not self._compactions:
            return
        job = self._compactions[0]
        began = self._clock.monotonic()
        is_finished = job.step()
        now = self._clock.monotonic()
        self.figures.compaction_pause_ms.observe(1000 * (now - began))
        self.figures.index_pause_ms.observe(1000 * (now - began))
        if not is_finished:
            self._loop.call_later(self.compaction_sleep_seconds, self._compact_some)
            return
        self._compactions.popleft()
        self.figures.compaction_total_ms.observe(1000 * (now - self._compaction_started))
        self.figures.last_compaction_seconds = self._clock.wall()
        self._log.info(
            "finished scheduled compaction",
            compact_revision=job.revision,
            took=now - self._compaction_started,
        )
        if self._compactions:
            self._compaction_started = now
            self._loop.call_soon(self._compact_some)
            return
        waiters, self._compaction_waiters = self._compaction_waiters, []
        for waiter in waiters:
            self.on_compacted(waiter)

    def when_compacted(self, callback: Callable[[], None]) -> None:
        """Call back when all compactions under way are finished and durable (Z4)."""
        if self._compactions:
            self._compaction_waiters.append(callback)
        else:
            self.on_compacted(callback)


class _SlicedRun:
    """One job and who waits for it. No cycle: a cursor that is over must be gone at once, because
    compaction waits for those that are not (mvcc/compaction.py)."""

    __slots__ = ("_abandon", "_background", "_call", "_history", "_job", "_reply", "_started")

    def __init__(
        self,
        background: Background,
        job: Stepper,
        call: Caller,
        reply: Callable[[], bytes],
        abandon: Callable[[], None],
    ) -> None:
        self._background = background
        self._history = background.history
        self._job = job
        self._call = call
        self._reply = reply
        self._abandon = abandon
        self._started = background.now()

    def step(self) -> None:
        call = self._call
        if call.cancelled or self._background.is_stopped:
            self._abandon()
            return
        if self._history != self._background.history:
            self._abandon()
            call.fail(errors.LeaderChanged.code, errors.LeaderChanged.message)
            return
        try:
            if not self._job.step():
                self._background.again(self)
                return
            body = self._reply()
        except errors.RequestError as error:
            call.fail(error.code, error.message)
        else:
            call.reply(body)
            self._background.note_end(self._started)


class PhysicalWaiter:
    """The waiter of a physical compaction: any answer waits until removal is finished (Z4)."""

    __slots__ = ("_background", "_waiter")

    def __init__(self, background: Background, waiter: Waiter) -> None:
        self._background = background
        self._waiter = waiter

    def reply(self, body: bytes) -> None:
        waiter = self._waiter
        self._background.when_compacted(lambda: waiter.reply(body))

    def fail(self, code: int, message: str) -> None:
        waiter = self._waiter
        if message != errors.Compacted.message:
            waiter.fail(code, message)
            return
        self._background.when_compacted(lambda: waiter.fail(code, message))
