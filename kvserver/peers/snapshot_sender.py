"""The whole database to a member that lags too far (spec/peer.md §4.2).

A SNAPSHOT message of raft is only the occasion: what is sent is the state as of the last applied
entry, since a joiner ignores a snapshot whose configuration does not know it. The image is built
into a temporary file in slices, then streamed. Raft hears exactly once how each one ended, and the
log is not compacted while one is on its way and for a while after.

Owner: the loop; files are read and written in a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from kvserver.errors import KeydeckError
from kvserver.interchange.spool import ClosableView, ImageBuilder, SpoolFile
from kvserver.limits import SNAPSHOT_READ_BYTES
from kvserver.logs import Logger
from kvserver.membership.ids import format_id
from kvserver.peers.envelope import encode_envelope
from kvserver.peers.network import PeerNetwork
from kvserver.peers.peer import Peer
from kvserver.peers.transfer import TransferLimits, let_go
from kvserver.raft import Message, Snapshot

T = TypeVar("T")


class State(Protocol):
    """The applied state, between two slices of applying."""

    def snapshot(self) -> Snapshot:
        """Position, configuration and membership image of what is applied."""

    def open_view(self) -> ClosableView:
        """The backend as of the same moment."""

    def hold_log(self) -> None: ...

    def release_log(self) -> None: ...

    def report_snapshot(self, member: int, is_success: bool) -> None: ...

    def report_unreachable(self, member: int) -> None: ...


class SnapshotSender:
    """What `PeerNetwork.send_snapshot` is set to."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        network: PeerNetwork,
        state: State,
        directory: str,
        log: Logger,
        limits: TransferLimits = TransferLimits(),
        thread: Executor | None = None,
        open_spool: Callable[[str], SpoolFile] = SpoolFile,
    ) -> None:
        """`thread` (an executor with one) and `open_spool` are the simulator's to choose."""
        self._loop = loop
        self._network = network
        self._state = state
        self._directory = directory
        self._log = log
        self._limits = limits
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="peer-snapshot")
        self._open_spool = open_spool
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, peer: Peer, message: Message) -> None:
        if len(self._tasks) >= self._limits.transfers_max:
            self._loop.call_soon(self._state.report_snapshot, peer.id, False)
            return
        self._state.hold_log()
        task = self._loop.create_task(self._run(peer, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._thread.shutdown(wait=False)

    async def _run(self, peer: Peer, message: Message) -> None:
        hold_seconds = 0.0
        figures, started = peer.figures.sent, self._loop.time()
        figures.begin()
        is_sent = False
        try:
            await self._send(peer, message)
        except (KeydeckError, OSError) as error:
            peer.urls.failed()
            peer.down(f"snapshot: {error}")
            self._log.warn(
                "failed to send a database snapshot", to=format_id(peer.id), error=str(error)
            )
            self._state.report_unreachable(peer.id)
            self._state.report_snapshot(peer.id, False)
        else:
            is_sent = True
            hold_seconds = self._limits.log_hold_seconds
            peer.up()
            self._state.report_snapshot(peer.id, True)
        finally:
            figures.end(is_sent, self._loop.time() - started)
            self._loop.call_later(hold_seconds, self._state.release_log)

    async def _send(self, peer: Peer, message: Message) -> None:
        snapshot = self._state.snapshot()
        builder = ImageBuilder(self._state.open_view())
        try:
            file = self._open_spool(self._directory)
            try:
                await self._build(builder, file)
                filled = message._replace(snapshot=snapshot)
                self._log.info(
                    "sending a database snapshot",
                    to=format_id(peer.id),
                    snapshot_index=snapshot.index,
                    size=builder.size_bytes,
                )
                headers = {
                    "Content-Type": "application/octet-stream",
                    **self._network.identity.request_headers(),
                }
                answer = await self._network.client.upload(
                    peer.urls.current(),
                    "/raft/snapshot",
                    headers,
                    self._pieces(encode_envelope(filled), file),
                    self._limits.answer_seconds,
                    self._limits.stall_seconds,
                )
                if answer.status != 204:
                    raise KeydeckError(f"{answer.status} {answer.text}")
            finally:
                let_go(self._thread, file.close)
        finally:
            builder.close()

    async def _build(self, builder: ImageBuilder, file: SpoolFile) -> None:
        is_complete = False
        while not is_complete:
            is_complete = builder.step()
            if builder.waiting_bytes >= SNAPSHOT_READ_BYTES or is_complete:
                await self._in_thread(file.write, builder.take())
            else:
                await asyncio.sleep(0)
        await self._in_thread(file.complete, builder.metas)

    async def _pieces(self, envelope: bytes, file: SpoolFile) -> AsyncIterator[bytes]:
        yield envelope
        while data := await self._in_thread(file.read, SNAPSHOT_READ_BYTES):
            yield data

    def _in_thread(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return self._loop.run_in_executor(self._thread, work, *arguments)
