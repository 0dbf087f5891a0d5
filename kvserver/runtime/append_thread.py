"""The append thread: the only place that waits for the WAL's disk.

It runs jobs in the order they are given and reports each to the loop. A job that raises is fatal
(a failed sync must never be retried): the loop is told once and the thread stops.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

from kvserver.clock import Clock

Job = Callable[[], None]
QUICK_APPEND_SECONDS = 0.0005
"""A disk that syncs faster than this on average may be waited for on the loop, one small batch at
a time: a tenth of what a slice of any other work may take (design D6)."""
AVERAGED_APPENDS = 16


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
        self._average_seconds = 1.0
        """Of the last appends, a slow disk until it has proven otherwise."""

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job, done: Callable[[float], None]) -> None:
        """Run `job`, then `done(seconds it took)` on the loop."""
        self._under_way += 1
        self._queue.put((job, done))

    def run_here(self, job: Job) -> float | None:
        """Run a small job on the loop itself if the thread is idle and the disk has been quick
        lately; the seconds it took, or None if it has to be submitted.

        A lone append then needs no two hand-overs between threads, each of which costs about as
        much as the disk does. One append as slow as a stall, and the thread is used again.
        """
        if self._under_way or self._average_seconds > QUICK_APPEND_SECONDS:
            return None
        started = self._clock.monotonic()
        job()
        took = self._clock.monotonic() - started
        self._note(took)
        return took

    def _note(self, took_seconds: float) -> None:
        self._average_seconds += (took_seconds - self._average_seconds) / AVERAGED_APPENDS

    def _finished(self, done: Callable[[float], None], took_seconds: float) -> None:
        self._under_way -= 1
        self._note(took_seconds)
        done(took_seconds)

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
            self._tell(self._finished, done, self._clock.monotonic() - started)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The loop has closed: the member is gone and nobody waits for this any more.
            return
