"""Maintenance.Snapshot: this member's state as a stream, in etcd's own format
(spec/maintenance.md §6, spec/bbolt.md §3.6).

First the image is built into a temporary file (interchange/spool.py), which takes about a second
for a million keys and lets the loop go every half millisecond; writes go on and are not in it.
Then the file is streamed at the client's pace. The read transaction is over before the first byte
leaves, so a slow client costs disk space and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kvserver import errors
from kvserver.interchange.spool import ClosableView, ImageBuilder, SpoolFile
from kvserver.limits import SNAPSHOT_CHUNK_BYTES, SNAPSHOT_READ_BYTES, SNAPSHOT_STREAMS_MAX
from kvserver.logs import NULL_LOGGER, Logger
from kvserver.metrics.histogram import Histogram
from kvserver.proto import rpc_pb2
from kvserver.services.gate import Gate, parse
from kvserver.transport import Method, Stream

PATH = "/etcdserverpb.Maintenance/Snapshot"
T = TypeVar("T")


class SnapshotService:
    """The handler of `Maintenance.Snapshot`. Owner: the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        open_view: Callable[[], ClosableView],
        directory: str,
        gate: Gate,
        log: Logger = NULL_LOGGER,
        durations: Histogram | None = None,
    ) -> None:
        """`durations` is told how many seconds each backup took."""
        self._loop = loop
        self._durations = durations
        self._open_view = open_view
        self._directory = directory
        self._gate = gate
        self._log = log
        # One thread: the calls of one backup stay in order, its closing included.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self.streams = 0

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        yield Method(PATH, "stream", self.snapshot, request_bytes_max)

    def stop(self) -> None:
        self._thread.shutdown(wait=False)

    async def snapshot(self, stream: Stream) -> None:
        await self._gate.settle(stream)
        self._gate.open_stream(stream, learner_ok=True)
        async for body in stream:
            parse(rpc_pb2.SnapshotRequest, body)
            break
        if self.streams >= SNAPSHOT_STREAMS_MAX:
            raise errors.RequestTooManyRequests
        self.streams += 1
        started = self._loop.time()
        try:
            await self._build_and_send(stream)
            if self._durations is not None:
                self._durations.observe(self._loop.time() - started)
        except OSError as error:
            reason = f"cannot build the snapshot: {error.strerror or error}"
            self._log.warn("failed to send a database snapshot to a client", error=reason)
            raise errors.RequestError(reason, errors.Code.UNAVAILABLE) from error
        finally:
            self.streams -= 1

    async def _build_and_send(self, stream: Stream) -> None:
        builder = ImageBuilder(self._open_view())
        try:
            file = SpoolFile(self._directory)
            try:
                await self._build(builder, file)
                await self._send(stream, builder, file)
            finally:
                # After whatever the thread still does with it: its number must not be free before.
                self._thread.submit(file.close)
        finally:
            builder.close()

    async def _build(self, builder: ImageBuilder, file: SpoolFile) -> None:
        """While the thread writes a megabyte, the next one is built; never more than that."""
        started = self._loop.time()
        writing = None
        is_complete = False
        while not is_complete:
            is_complete = builder.step()
            if builder.waiting_bytes < SNAPSHOT_READ_BYTES and not is_complete:
                await asyncio.sleep(0)
                continue
            if writing is not None:
                await writing
            writing = self._in_thread(file.write, builder.take())
            await asyncio.sleep(0)
        if writing is not None:
            await writing
        await self._in_thread(file.complete, builder.metas)
        self._log.info(
            "sending database snapshot to client",
            total_bytes=builder.size_bytes,
            build_took=self._loop.time() - started,
        )

    async def _send(self, stream: Stream, builder: ImageBuilder, file: SpoolFile) -> None:
        started = self._loop.time()
        messages = SnapshotMessages(builder.size_bytes, builder.version)
        while messages.remaining:
            data = await self._in_thread(file.read, SNAPSHOT_READ_BYTES)
            if not data:
                raise OSError("the temporary file is shorter than what was written to it")
            for first in range(0, len(data), SNAPSHOT_CHUNK_BYTES):
                await stream.drain()
                stream.send(messages.chunk(data[first : first + SNAPSHOT_CHUNK_BYTES]))
        stream.send(messages.digest(file.digest()))
        self._log.info(
            "successfully sent database snapshot to client",
            total_bytes=builder.size_bytes,
            took=self._loop.time() - started,
        )

    def _in_thread(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        return self._loop.run_in_executor(self._thread, work, *arguments)


class SnapshotMessages:
    """Encodes the messages of one stream and counts what is still to come (N1-N3)."""

    def __init__(self, size_bytes: int, version: str) -> None:
        self.remaining = size_bytes
        self._version = version

    def chunk(self, blob: bytes) -> bytes:
        self.remaining -= len(blob)
        return self._encode(blob)

    def digest(self, digest: bytes) -> bytes:
        """The last message."""
        return self._encode(digest)

    def _encode(self, blob: bytes) -> bytes:
        return rpc_pb2.SnapshotResponse(
            remaining_bytes=self.remaining, blob=blob, version=self._version
        ).SerializeToString()
