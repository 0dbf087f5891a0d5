"""The append thread: what waits for the WAL's disk.

It runs jobs in the order they are given and reports each to the loop. A job that raises is fatal
(a failed sync must never be retried): the loop is told once and the thread stops.

The way to a thread and back costs a follower more than a quick disk does: two threads are woken,
each with the GIL in between. Where nobody would notice that the loop stands still, a short job may
run on it (`run_here`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

from kvserver.clock import Clock
from kvserver.limits import APPEND_HERE_AGAIN_SECONDS, APPEND_HERE_SECONDS_MAX

Job = Callable[[], None]


class AppendThread:
    """One worker and its queue. `submit` belongs to the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._on_fatal = on_fatal
        self._queue: SimpleQueue[tuple[Job, Callable[[float], None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="append", daemon=True)
        self._under_way = 0
        self._here_from = 0.0
        """When the disk may next be trusted to be quick."""

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job, done: Callable[[float], None]) -> None:
        """Run `job`, then `done(seconds it took)` on the loop."""
        self._under_way += 1
        self._queue.put((job, done))

    def run_here(self, job: Job) -> float | None:
        """Run `job` at once, before this returns: the seconds it took. None, and nothing was done,
        while others are under way or the disk was slow lately: then it is to be submitted."""
        started = self._clock.monotonic()
        if self._under_way or started < self._here_from:
            return None
        try:
            job()
        except BaseException as error:
            self._queue.put(None)  # what is submitted from here on never runs
            self._on_fatal(error)
            return None
        now = self._clock.monotonic()
        if now - started > APPEND_HERE_SECONDS_MAX:
            self._here_from = now + APPEND_HERE_AGAIN_SECONDS
        return now - started

    def stop(self) -> None:
        """Finish what is queued, then end. Blocks for at most one job's time."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            job, done = item
            started = self._clock.monotonic()
            try:
                job()
            except BaseException as error:
                self._tell(self._on_fatal, error)
                return
            self._tell(self._finished, (done, self._clock.monotonic() - started))

    def _finished(self, finished: tuple[Callable[[float], None], float]) -> None:
        self._under_way -= 1
        done, took_seconds = finished
        done(took_seconds)

    def _tell(self, callback: Callable[..., None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:
            # The loop has closed: the member is gone and nobody waits for this any more.
            return
