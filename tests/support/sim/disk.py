"""One machine's disk: files that forget what was not synced, and databases that keep what was
flushed. The append and flush threads are queues whose jobs take simulated time."""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kvserver.errors import FatalError
from kvserver.mvcc.backend.api import NO_GRANT, Job
from kvserver.mvcc.backend.memory import Contents, MemoryBackend
from kvserver.snap.snapshotter import snapshot_db_name
from tests.support.sim.loop import SimLoop
from tests.support.sim.world import Death, Violation
from tests.support.sim_fs import Crash, SimFs

Latency = Callable[[], float]
NUMBER_BYTES = 8


class Disk:
    """Survives the processes that use it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.fs = SimFs()
        self._databases: dict[int, Contents] = {}
        """What is durable in the databases, each a file of LMDB that holds a number here: a commit
        is whole or absent, but the name of the file is at risk like any other's."""
        path = ""
        for part in root.strip("/").split("/"):
            path += f"/{part}"
            self.fs.make_dir(path)

    def crash(self, rng: random.Random) -> None:
        """Power is cut, or only the process dies: then all of the volatile cache survives."""
        self.fs = self.fs.crash("all" if rng.random() < 0.3 else rng.getrandbits(32))

    def rot(self, rng: random.Random) -> str:
        """One bit of a log segment or snapshot file turns over; returns which."""
        files = [
            (f"{path}/{name}", inode)
            for path, directory in sorted(self.fs.directories.items())
            for name, inode in sorted(directory.live.items())
            if name.endswith((".wal", ".snap")) and inode.live
        ]
        path, inode = rng.choice(files)
        # Most of a segment is still empty: it is no news that nothing is wrong with zeros.
        used = len(bytes(inode.live).rstrip(b"\0")) or 1
        offset = rng.randrange(used)
        inode.live[offset] ^= 1 << rng.randrange(8)
        inode.disk[offset] = inode.live[offset]
        return f"{path} at {offset} of {used}"

    def open_backend(self, path: str, map_bytes: int) -> SimBackend:
        """Open or create; a file whose first commit did not come about is a new one."""
        try:
            if not self.fs.exists(path):
                self._create(path, self.fs.create(path))
            elif not self._number_in(path):
                self._create(path, self.fs.open(path))
        except OSError as error:
            raise FatalError(f"cannot open the backend {path}: {error}") from error
        return SimBackend(self, path)

    def _create(self, path: str, handle: int) -> None:
        number = len(self._databases) + 1
        self.fs.write(handle, number.to_bytes(NUMBER_BYTES), 0, sync=True)
        self.fs.close(handle)
        self.fs.sync_dir(os.path.dirname(path))
        self._databases[number] = MemoryBackend().durable

    def _number_in(self, path: str) -> int:
        return int.from_bytes(self.fs.read_file(path))

    def received_marks(self, index: int) -> tuple[int, int] | None:
        """Index and term of the database received for a snapshot as a crash now would leave them,
        at worst; None if it would leave no such file."""
        name = snapshot_db_name(index)
        for directory in self.fs.directories.values():
            inode = directory.disk.get(name)
            if inode is not None and directory.live.get(name) is inode:
                marks = MemoryBackend(self._databases[int.from_bytes(inode.disk)]).marks
                return marks.consistent_index, marks.term
        return None

    def contents_of(self, path: str) -> Contents:
        return self._databases[self._number_in(path)]


class SimBackend(MemoryBackend):
    """Dictionaries of which the flushed part survives a crash, wherever its file goes."""

    removed_temporaries = ()

    def __init__(self, disk: Disk, path: str) -> None:
        super().__init__(disk.contents_of(path))
        self._disk = disk
        self._path = path

    def adopt(self, path: str) -> Job:
        fs = self._disk.fs
        if not fs.exists(path):
            raise FatalError(f"the received database {path} is gone")
        contents = self._disk.contents_of(path)
        try:
            fs.rename(path, self._path)
            fs.sync_dir(os.path.dirname(path))
        except OSError as error:
            raise FatalError(f"cannot put {path} in the place of the backend: {error}") from error
        MemoryBackend.__init__(self, contents)
        return _Nothing()

    def close(self) -> None:
        if self._job is not None:
            raise Violation(f"{self._path} is closed under the flush thread's hands")
        super().close()


class _Nothing:
    def run(self, grant: Any) -> None:
        """The old contents are forgotten already."""


class SimAppendThread:
    """In place of runtime.AppendThread: same interface, same order, simulated time."""

    def __init__(
        self,
        loop: SimLoop,
        on_fatal: Callable[[BaseException], None],
        latency: Latency,
        is_quick: bool,
    ) -> None:
        self._loop = loop
        self._on_fatal = on_fatal
        self._latency = latency
        self._jobs: deque[tuple[Callable[[], None], Callable[[float], None]]] = deque()
        self._is_busy = False
        self._is_running = False
        self._has_failed = False
        self._is_quick = is_quick
        """Whether a short job may run on the loop: it takes no time then."""

    def start(self) -> None:
        """There is no thread."""

    def stop(self) -> None:
        self._jobs.clear()

    def run_here(self, job: Callable[[], None]) -> float | None:
        if not self._is_quick or self._jobs or self._has_failed:
            return None
        try:
            job()
        except Exception as error:
            self._has_failed = True
            self._loop.call_soon(self._on_fatal, error)
            return None
        return 0.0

    def submit(self, job: Callable[[], None], done: Callable[[float], None]) -> None:
        self._jobs.append((job, done))
        if not self._is_busy and not self._has_failed:
            self._begin()

    def _begin(self) -> None:
        self._is_busy = True
        seconds = self._latency()
        self._loop.world.call_later(seconds, self._loop, self._finish, seconds)

    def _finish(self, seconds: float) -> None:
        job, done = self._jobs.popleft()
        self._is_running = True
        try:
            job()
        except Exception as error:
            self._has_failed = True
            self._loop.call_soon(self._on_fatal, error)
            return
        self._is_running = False
        self._loop.call_soon(done, seconds)
        self._is_busy = False
        if self._jobs:
            self._begin()

    def crash(self, fs: SimFs, rng: random.Random) -> None:
        """The process dies in the middle of the job under way: some of its calls were made. Where
        it is such a job that dies, those after it have not begun."""
        if self._is_busy and self._jobs and not self._is_running and rng.random() < 0.5:
            fs.crash_at = fs.calls + rng.randint(1, 4)
            with suppress(Crash, Death, Exception):  # it may die at a failpoint again
                self._jobs[0][0]()


class SimFlushThread:
    """In place of runtime.FlushThread. A job is a transaction: it happens whole or not at all."""

    def __init__(
        self, loop: SimLoop, on_fatal: Callable[[BaseException], None], latency: Latency
    ) -> None:
        self.grant = NO_GRANT
        self._loop = loop
        self._on_fatal = on_fatal
        self._latency = latency
        self._jobs: deque[tuple[Job, Callable[[Job], None]]] = deque()
        self._is_busy = False
        self._is_running = False

    @property
    def is_busy(self) -> bool:
        return self._is_busy

    def start(self) -> None:
        """There is no thread."""

    def submit(self, job: Job, done: Callable[[Job], None]) -> None:
        self._jobs.append((job, done))
        if not self._is_busy:
            self._begin()

    def _begin(self) -> None:
        self._is_busy = True
        self._loop.world.call_later(self._latency(), self._loop, self._finish)

    def _finish(self) -> None:
        job, done = self._jobs.popleft()
        self._is_running = True
        try:
            job.run(NO_GRANT)
        except Exception as error:
            self._loop.call_soon(self._on_fatal, error)
            return
        self._is_running = False
        self._loop.call_soon(done, job)
        self._is_busy = False
        if self._jobs:
            self._begin()

    def crash(self, rng: random.Random) -> None:
        """The commit of the job under way came before the crash, or it did not."""
        if self._is_busy and self._jobs and not self._is_running and rng.random() < 0.5:
            with suppress(Death):  # at a failpoint, once more
                self._jobs[0][0].run(NO_GRANT)
