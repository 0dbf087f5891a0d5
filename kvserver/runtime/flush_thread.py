"""The flush thread: one worker that runs the backend's jobs, one after the other (design D1, D8).

Jobs are immutable values or own what they carry (`mvcc.backend.api.Job`); results come back to the
loop in the order of the jobs. A job that raises has met something the member cannot survive: the
loop is told once, later jobs are not run.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from kvserver.mvcc.backend.api import Job
from kvserver.runtime.grant import SliceGrant

Done = Callable[[Job], None]


class FlushThread:
    """Owned by the loop: `start`, `submit` and `close` are called there; `on_fatal` and the `done`
    callbacks run there."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_fatal: Callable[[BaseException], None]
    ) -> None:
        self.grant = SliceGrant(loop)
        self._loop = loop
        self._on_fatal = on_fatal
        self._jobs: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(target=self._work, name="flush", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job, done: Done) -> None:
        """Run `job` after those before it, then `done(job)` on the loop."""
        self._jobs.put((job, done))

    async def close(self) -> None:
        """Let the submitted jobs finish, deliver their callbacks, end the thread."""
        self._jobs.put(None)
        if self._thread.ident is not None:
            await asyncio.shield(self._ended)
            self._thread.join()

    def abandon(self) -> None:
        """The loop is ending at once: jobs run on without grants, nobody waits for them."""
        self.grant.set_free()
        self._jobs.put(None)

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the thread without a loop; whether it has ended."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            try:
                job.run(self.grant)
            except BaseException as error:
                self._post(self._on_fatal, error)
                break
            self._post(done, job)
            del item, job, done  # what the job carried shall not live until the next one
        self._post(self._end)

    def _post(self, callback: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            self.grant.set_free()  # the loop is closed, there is nobody to tell

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
