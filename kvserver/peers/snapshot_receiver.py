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
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from kvserver.errors import KeydeckError
from kvserver.interchange.importer import Importer
from kvserver.interchange.reader import Image, PageMap
from kvserver.limits import SNAPSHOT_READ_BYTES
from kvserver.logs import Logger
from kvserver.membership.codec import encode_conf_state, encode_member
from kvserver.membership.ids import format_id
from kvserver.membership.legacy_image import LegacyMembership, decode_legacy_image
from kvserver.mvcc.backend.api import Job
from kvserver.mvcc.backend.environment import LOCK, discard, sync_directory
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.mvcc.backend.tables import CLUSTER, KEY, MEMBERS, MEMBERS_REMOVED
from kvserver.mvcc.restore import IndexBuilder
from kvserver.peers.envelope import read_envelope
from kvserver.peers.network import PeerNetwork
from kvserver.raft import Snapshot
from kvserver.snap.snapshotter import snapshot_db_name
from kvserver.transport import HttpRequest, HttpResponse

T = TypeVar("T")
TEMPORARY_PREFIX = "tmp-received-"
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
        directory: str,
        map_bytes: Callable[[int], int],
        log: Logger,
    ) -> None:
        self._loop = loop
        self._network = network
        self._flusher = flusher
        self._directory = directory
        self._map_bytes = map_bytes
        """Address space for a backend that begins with so many bytes."""
        self._log = log
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="peer-receive")
        self._lock = asyncio.Lock()
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
        message, first = await read_envelope(request.chunks)
        self._network.check_sender(message.from_)
        snapshot = message.snapshot
        assert snapshot is not None
        figures, started = self._network.figures_of(message.from_).received, self._loop.time()
        figures.begin()
        is_received = False
        try:
            async with self._lock:
                await self._take(request, first, message.from_, snapshot)
            is_received = True
        finally:
            figures.end(is_received, self._loop.time() - started)
        self._network.receive(message)
        cluster = format_id(self._network.identity.cluster_id)
        return HttpResponse(204, {"X-Etcd-Cluster-ID": cluster})

    async def _take(
        self, request: HttpRequest, first: bytes, sender: int, snapshot: Snapshot
    ) -> None:
        with tempfile.NamedTemporaryFile(
            prefix=TEMPORARY_PREFIX, dir=self._directory, buffering=0
        ) as file:
            await self._write(file, first, request)
            size = file.tell()
            self._log.info(
                "received a database snapshot",
                sender=format_id(sender),
                snapshot_index=snapshot.index,
                size=size,
            )
            await self._convert(file.fileno(), size, snapshot)

    async def _write(self, file: Any, first: bytes, request: HttpRequest) -> None:
        assert request.chunks is not None
        held, size = [first], len(first)
        try:
            async for chunk in request.chunks:
                held.append(chunk)
                size += len(chunk)
                if size >= SNAPSHOT_READ_BYTES:
                    await self._in_thread(file.write, b"".join(held))
                    held, size = [], 0
        except ConnectionResetError as error:
            raise KeydeckError(str(error)) from None
        await self._in_thread(file.write, b"".join(held))

    # -- into a backend file

    async def _convert(self, descriptor: int, size: int, snapshot: Snapshot) -> None:
        final = os.path.join(self._directory, snapshot_db_name(snapshot.index))
        building = os.path.join(self._directory, f"{TEMPORARY_PREFIX}{snapshot.index:016x}")
        discard(building)
        image = Image(descriptor, size)
        backend = await self._in_thread(LmdbBackend, building, self._map_bytes(image.size_bytes))
        try:
            builder = await self._fill(backend, image, snapshot)
        except BaseException:
            backend.close()
            discard(building)
            raise
        await self._in_thread(_close, backend, building, final)
        self._built = snapshot.index, builder
        self._loop.call_later(INDEX_KEPT_SECONDS, self._forget, builder)

    def _forget(self, builder: IndexBuilder) -> None:
        """Raft has passed a snapshot by that the log has overtaken: nobody will ask for it."""
        if self._built is not None and self._built[1] is builder:
            self._built = None

    def _in_thread(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return self._loop.run_in_executor(self._thread, work, *arguments)

    async def _fill(self, backend: LmdbBackend, image: Image, snapshot: Snapshot) -> IndexBuilder:
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

    async def _flush(self, backend: LmdbBackend) -> None:
        job = backend.begin_flush()
        if job is None:
            return
        ended: asyncio.Future[None] = self._loop.create_future()

        def done(job: Job) -> None:
            backend.finish_flush(job)
            if not ended.done():
                ended.set_result(None)

        self._flusher.submit(job, done)
        await asyncio.shield(ended)


def _close(backend: LmdbBackend, building: str, final: str) -> None:
    """The file is complete: give it its name."""
    backend.close()
    discard(building + LOCK)
    # In one step: an equal one may be waiting there to be installed at this very moment.
    os.rename(building, final)
    sync_directory(os.path.dirname(final))


def _put_members(backend: LmdbBackend, members: LegacyMembership) -> None:
    """Releases up to 3.5 tell the membership here and not in the image."""
    for member in members.members:
        backend.put(MEMBERS, format_id(member.id).encode(), encode_member(member))
    for number in members.removed:
        backend.put(MEMBERS_REMOVED, format_id(number).encode(), b"removed")
    if members.version:
        backend.put(CLUSTER, b"clusterVersion", members.version.encode())
