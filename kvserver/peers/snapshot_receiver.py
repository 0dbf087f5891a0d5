"""A database from the leader: received, made into a backend file of ours, then told to raft
(spec/peer.md §4.2).

The image goes to a temporary file and from there, in slices, into `<index>.snap.db`: a complete
LMDB file whose applied index is the snapshot's. Only then raft hears of it; when raft has it on
disk, `runtime/install.py` puts the file in the place of the running one, together with its key
index, which is built here on the way: nothing long is left to do at that moment. A crash at any
time leaves a `tmp*` file, which the next start removes, or a whole `.snap.db`, which it uses if the
log vouches for that snapshot.

Owner: the loop. Files are written in a thread; LMDB's many small calls go to the flush thread,
which writes in slices that the loop grants (runtime/grant.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from kvserver.fs import FileSystem
from kvserver.interchange.importer import Importer
from kvserver.interchange.reader import Image, PageMap
from kvserver.limits import SNAPSHOT_READ_BYTES
from kvserver.logs import Logger
from kvserver.membership.codec import encode_conf_state, encode_member
from kvserver.membership.ids import format_id
from kvserver.membership.legacy_image import LegacyMembership, decode_legacy_image
from kvserver.mvcc.backend.api import FileBackend, Job
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.mvcc.backend.tables import CLUSTER, KEY, MEMBERS, MEMBERS_REMOVED
from kvserver.mvcc.restore import IndexBuilder
from kvserver.peers.envelope import read_envelope
from kvserver.peers.identity import RefusedPeer
from kvserver.peers.network import PeerNetwork
from kvserver.peers.paced import PacedBody
from kvserver.peers.received_files import OpenBackend, ReceivedBackend, SpooledImage
from kvserver.peers.transfer import TransferLimits, let_go
from kvserver.raft import Snapshot
from kvserver.transport import HttpRequest, HttpResponse

T = TypeVar("T")
INDEX_KEPT_SECONDS = 120.0
LEAVES_PER_SLICE = 16
"""Pages taken into the backend's buffer between two breaths of the loop: below a millisecond."""


class Flusher(Protocol):
    """The flush thread."""

    def submit(self, job: Job, done: Callable[[Job], None]) -> None: ...


class SnapshotReceiver:
    """What `RaftHttp.receive_snapshot` is set to."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        network: PeerNetwork,
        flusher: Flusher,
        fs: FileSystem,
        directory: str,
        map_bytes: Callable[[int], int],
        log: Logger,
        open_backend: OpenBackend = LmdbBackend,
        limits: TransferLimits = TransferLimits(),
        thread: Executor | None = None,
    ) -> None:
        """`thread` (an executor with one) and `open_backend` are the simulator's to choose."""
        self._loop = loop
        self._network = network
        self._flusher = flusher
        self._fs = fs
        self._directory = directory
        self._map_bytes = map_bytes
        """Address space for a backend that begins with so many bytes."""
        self._log = log
        self._open_backend = open_backend
        self._limits = limits
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="peer-receive")
        self._lock = asyncio.Lock()
        self._images = 0
        self._built: tuple[int, IndexBuilder] | None = None
        """Of the database received last, by the snapshot's index."""

    def stop(self) -> None:
        self._thread.shutdown(wait=False)

    def take_index(self, snapshot_index: int) -> IndexBuilder | None:
        """The key index of the database that was received with this snapshot, once."""
        built, self._built = self._built, None
        return built[1] if built is not None and built[0] == snapshot_index else None

    async def receive(self, request: HttpRequest) -> HttpResponse:
        """Raises `RefusedPeer`, or what becomes a 500: raft then sends another."""
        assert request.chunks is not None
        body = PacedBody(request.chunks, self._limits.stall_seconds)
        message, first = await read_envelope(body)
        network = self._network
        network.check_sender(message.from_)
        if message.to and message.to != network.identity.member_id:
            raise RefusedPeer(500, "failed to process raft message")
        snapshot = message.snapshot
        assert snapshot is not None
        figures, started = network.figures_of(message.from_).received, self._loop.time()
        figures.begin()
        is_received = False
        try:
            async with self._lock:
                await self._take(body, first, message.from_, snapshot)
            is_received = True
        finally:
            figures.end(is_received, self._loop.time() - started)
        network.check_sender(message.from_)  # which may have been removed meanwhile
        network.receive(message)
        cluster = format_id(network.identity.cluster_id)
        return HttpResponse(204, {"X-Etcd-Cluster-ID": cluster})

    async def _take(self, body: PacedBody, first: bytes, sender: int, snapshot: Snapshot) -> None:
        self._images += 1
        file = SpooledImage(self._fs, self._directory, self._images)
        try:
            await self._write(file, first, body)
            self._log.info(
                "received a database snapshot",
                sender=format_id(sender),
                snapshot_index=snapshot.index,
                size=file.size_bytes,
            )
            await self._convert(file, snapshot)
        finally:
            let_go(self._thread, file.remove)

    async def _write(self, file: SpooledImage, first: bytes, body: PacedBody) -> None:
        held, size = [first], len(first)
        async for chunk in body:
            held.append(chunk)
            size += len(chunk)
            if size >= SNAPSHOT_READ_BYTES:
                await self._in_thread(file.write, b"".join(held))
                held, size = [], 0
        await self._in_thread(file.write, b"".join(held))

    # -- into a backend file

    async def _convert(self, file: SpooledImage, snapshot: Snapshot) -> None:
        image = Image(file.handle, file.size_bytes, self._fs.read)
        received = ReceivedBackend(self._fs, self._directory, snapshot.index, self._open_backend)
        try:
            backend = await self._in_thread(received.open, self._map_bytes(image.size_bytes))
            builder = await self._fill(backend, image, snapshot)
            await self._in_thread(received.give_name)
        except BaseException:
            let_go(self._thread, received.discard)
            raise
        self._built = snapshot.index, builder
        self._loop.call_later(INDEX_KEPT_SECONDS, self._forget, builder)

    def _forget(self, builder: IndexBuilder) -> None:
        """Raft has passed a snapshot by that the log has overtaken: nobody will ask for it."""
        if self._built is not None and self._built[1] is builder:
            self._built = None

    def _in_thread(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return self._loop.run_in_executor(self._thread, work, *arguments)

    async def _fill(self, backend: FileBackend, image: Image, snapshot: Snapshot) -> IndexBuilder:
        importer, builder = Importer(backend), IndexBuilder()
        used = PageMap(image.meta.high_water)
        members = decode_legacy_image(snapshot.data)
        for bucket in image.buckets(used):
            table = bucket.name.decode(errors="replace")
            if table != KEY:
                importer.small_table(bucket, used)
                continue
            for number, pairs in enumerate(importer.record_slices(bucket, used)):
                builder.add(pairs)
                if importer.is_flush_due:
                    await self._flush(backend)
                elif number % LEAVES_PER_SLICE == 0:
                    await asyncio.sleep(0)
        _put_members(backend, members)
        conf_state = encode_conf_state(snapshot.conf_state)
        backend.commit_marks(snapshot.index, snapshot.term, conf_state)
        await self._flush(backend)
        for _ in builder.sort_in_slices():
            await asyncio.sleep(0)
        return builder

    async def _flush(self, backend: FileBackend) -> None:
        job = backend.begin_flush()
        if job is None:
            return
        ended: asyncio.Future[None] = self._loop.create_future()

        def done(job: Job) -> None:
            backend.finish_flush(job)
            if not ended.done():
                ended.set_result(None)

        self._flusher.submit(job, done)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            await ended  # the file is not to be closed under the flush thread's hands
            raise


def _put_members(backend: FileBackend, members: LegacyMembership) -> None:
    """Releases up to 3.5 tell the membership here and not in the image."""
    for member in members.members:
        backend.put(MEMBERS, format_id(member.id).encode(), encode_member(member))
    for number in members.removed:
        backend.put(MEMBERS_REMOVED, format_id(number).encode(), b"removed")
    if members.version:
        backend.put(CLUSTER, b"clusterVersion", members.version.encode())
