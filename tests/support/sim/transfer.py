"""Whole databases from one member to another: the product's own sender, receiver, HTTP client and
server, images and envelopes, on simulated connections (streams.py), threads and files.

What is not the product's: the file that is read from and the one that is received into are files of
the simulated disk, the received backend is a `SimBackend` in place of LMDB, and a thread is a queue
whose jobs take the disk's time.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kvserver.errors import FatalError
from kvserver.interchange.spool import TEMPORARY_PREFIX
from kvserver.peers.server import RaftHttp, wants_body_stream
from kvserver.peers.snapshot_receiver import SnapshotReceiver
from kvserver.peers.snapshot_sender import SnapshotSender
from kvserver.peers.transfer import TransferLimits
from kvserver.runtime.applied_state import AppliedState
from kvserver.services.peer_http import PeerHttpApp
from kvserver.transport import Server, TransportLimits
from tests.support.sim.disk import Latency
from tests.support.sim.loop import SimLoop
from tests.support.sim.world import Death, Violation
from tests.support.sim_fs import Crash, SimFs

if TYPE_CHECKING:
    from tests.support.sim.machine import Process

LIMITS = TransferLimits(stall_seconds=3.0, answer_seconds=5.0, log_hold_seconds=5.0)
"""Of the product's minutes, what a run of one minute has room for."""
PORT_LIMITS = TransportLimits(stream_window_bytes=8192)
"""Small, so that a body waits for its reader."""


class Transfers:
    """What one process sends and receives."""

    def __init__(self, process: Process, directory: str) -> None:
        self._process = process
        core, loop, machine = process.core, process.loop, process.machine
        fs, network, latency = machine.disk.fs, process.network, machine.latency
        limits = machine.settings.transfer_limits
        self._fs = fs
        self._reading = SimThread(loop, latency)
        self._writing = SimThread(loop, latency)
        sender = SnapshotSender(
            loop,
            network,  # type: ignore[arg-type]
            AppliedState(core.member, core.storage),
            directory,
            process.log,  # type: ignore[arg-type]
            limits,
            self._reading,
            lambda directory: SimSpool(fs, directory, process),  # type: ignore[arg-type,return-value]
        )
        network.send_snapshot = sender.send  # type: ignore[assignment]
        receiver = SnapshotReceiver(
            loop=loop,
            network=network,  # type: ignore[arg-type]
            flusher=process.flush,
            fs=fs,
            open_backend=machine.disk.open_backend,
            directory=directory,
            map_bytes=lambda size: size,
            log=process.log,  # type: ignore[arg-type]
            limits=limits,
            thread=self._writing,
        )
        core.installer.take_index = receiver.take_index
        self.http = RaftHttp(network, process.clock)  # type: ignore[arg-type]
        self.http.receive_snapshot = receiver.receive

    def listen(self, app: PeerHttpApp) -> None:
        """Open the peer port."""
        server = Server(
            (), app, PORT_LIMITS, self._tell, wants_body_stream=wants_body_stream, kind="peer"
        )
        self._process.loop.create_task(server.listen_tcp(self._process.name, 2380))

    def _tell(self, level: str, message: str, fields: dict[str, Any]) -> None:
        """A handler that fails is answered for with a 500: only the disk may make it."""
        error = fields.get("exc")
        if error is not None and not isinstance(error, OSError | FatalError):
            process = self._process
            process.world.fail(f"{process.name}: {message}: {error!r}")

    def crash(self, rng: random.Random) -> None:
        for thread in (self._reading, self._writing):
            thread.crash(self._fs, rng)


class SimThread(Executor):
    """In place of an executor with one thread: jobs in their order, each takes the disk's time."""

    def __init__(self, loop: SimLoop, latency: Latency) -> None:
        self._loop = loop
        self._latency = latency
        self._jobs: deque[tuple[Callable[[], Any], asyncio.Future[Any] | None]] = deque()
        self._is_busy = False
        self._is_running = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Nobody asks what comes of it."""
        self._put(functools.partial(fn, *args, **kwargs), None)

    def run(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """What `loop.run_in_executor` gives back."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._put(functools.partial(work, *args), future)
        return future

    def _put(self, work: Callable[[], Any], future: asyncio.Future[Any] | None) -> None:
        self._jobs.append((work, future))
        if not self._is_busy:
            self._begin()

    def _begin(self) -> None:
        """The next job that is still wanted."""
        while self._jobs and (future := self._jobs[0][1]) is not None and future.cancelled():
            self._jobs.popleft()
        self._is_busy = bool(self._jobs)
        if self._is_busy:
            self._loop.world.call_later(self._latency(), self._loop, self._finish)

    def _finish(self) -> None:
        work, future = self._jobs.popleft()
        self._is_running = True
        result = error = None
        try:
            result = work()
        except Violation:
            raise
        except Exception as caught:
            error = caught
        self._is_running = False
        if future is not None and not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        self._begin()

    def crash(self, fs: SimFs, rng: random.Random) -> None:
        """The process dies in the middle of the job under way: some of its calls were made."""
        if self._is_busy and self._jobs and not self._is_running and rng.random() < 0.5:
            fs.crash_at = fs.calls + rng.randint(1, 4)
            with suppress(Crash, Death, Exception):
                self._jobs[0][0]()


class SimSpool:
    """In place of `SpoolFile`, whose file has no name and so no life after a crash. This one has,
    as on filesystems that cannot do without: the next start removes it."""

    def __init__(self, fs: SimFs, directory: str, process: Process) -> None:
        process.spools += 1
        self._fs = fs
        self._path = f"{directory}/{TEMPORARY_PREFIX}{process.spools}"
        self._handle = fs.create(self._path)
        self._written_bytes = self._read_bytes = 0

    def write(self, pages: bytes) -> None:
        self._fs.write(self._handle, pages, self._written_bytes, sync=False)
        self._written_bytes += len(pages)

    def complete(self, metas: bytes) -> None:
        self._fs.write(self._handle, metas, 0, sync=False)

    def read(self, size: int) -> bytes:
        data = self._fs.read(self._handle, size, self._read_bytes)
        self._read_bytes += len(data)
        return data

    def close(self) -> None:
        self._fs.close(self._handle)
        self._fs.unlink(self._path)
