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

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job, done: Callable[[float], None]) -> None:
        """Run `job`, then `done(seconds it took)` on the loop."""
        self._queue.put((job, done))

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
            self._tell(done, self._clock.monotonic() - started)

    def _tell(self, callback: Callable[..., None], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:
            # The loop has closed: the member is gone and nobody waits for this any more.
            return
