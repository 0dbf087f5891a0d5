"""Maintenance.Snapshot over the real transport, with a real client (spec/maintenance.md §6)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kvserver import errors
from kvserver.interchange.spool import ClosableView
from kvserver.limits import SNAPSHOT_STREAMS_MAX
from kvserver.mvcc.backend.memory import MemoryBackend
from kvserver.proto import rpc_pb2, rpc_pb2_grpc
from kvserver.services.gate import Gate
from kvserver.services.snapshot import SnapshotMessages, SnapshotService
from tests.interchange.images import contents, revision
from tests.support.fake_member import FakeMember, serving, until

Stub = rpc_pb2_grpc.MaintenanceStub


class Served:
    """A service over a backend in memory that counts its open views."""

    def __init__(self, directory: Path) -> None:
        self.backend = MemoryBackend()
        self.member = FakeMember()
        self.open_views = 0
        loop = asyncio.get_running_loop()
        self.service = SnapshotService(loop, self._view, str(directory), Gate(self.member))

    def _view(self) -> ClosableView:
        served, view = self, self.backend.open_snapshot()
        served.open_views += 1

        class Counted:
            items = view.items
            is_open = True

            def close(self) -> None:
                served.open_views -= self.is_open
                self.is_open = False
                view.close()

        return Counted()

    def fill(self, records: int, size_bytes: int) -> None:
        self.backend.put("cluster", b"clusterVersion", b"3.6.0")
        for main in range(2, records + 2):
            self.backend.append(revision(main), bytes(size_bytes))

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[Stub]:
        try:
            async with serving(self.service.methods(1000)) as channel:
                yield Stub(channel)
        finally:
            self.service.stop()


async def test_a_stream_is_an_image_in_chunks_and_its_digest(tmp_path: Path) -> None:
    """N1-N5: full chunks but the last, what remains counted down, the version everywhere."""
    served = Served(tmp_path)
    served.fill(700, 1000)
    async with served.stub() as stub:
        messages = [message async for message in stub.Snapshot(rpc_pb2.SnapshotRequest())]
    *chunks, digest = messages
    image = b"".join(chunk.blob for chunk in chunks)
    assert {len(chunk.blob) for chunk in chunks[:-1]} == {32_768}
    assert 0 < len(chunks[-1].blob) <= 32_768
    sent = 0
    for chunk in chunks:
        sent += len(chunk.blob)
        assert chunk.remaining_bytes == len(image) - sent
    assert (digest.blob, digest.remaining_bytes) == (hashlib.sha256(image).digest(), 0)
    assert {message.version for message in messages} == {"3.6.0"}
    assert not any(message.HasField("header") for message in messages)
    assert len(image) % 512 == 0
    assert len(contents(image)[b"key"]) == 700
    assert served.open_views == 0


def test_the_messages_of_a_known_size() -> None:
    """spec/maintenance.md §11 case 21: 303104 bytes."""
    messages = SnapshotMessages(303_104, "")
    remaining = []
    while messages.remaining:
        size = min(32_768, messages.remaining)
        remaining.append(rpc_pb2.SnapshotResponse.FromString(messages.chunk(bytes(size))))
    assert [message.remaining_bytes for message in remaining] == [
        270_336, 237_568, 204_800, 172_032, 139_264, 106_496, 73_728, 40_960, 8_192, 0,
    ]  # fmt: skip
    assert [len(message.blob) for message in remaining] == [32_768] * 9 + [8_192]
    last = rpc_pb2.SnapshotResponse.FromString(messages.digest(b"d" * 32))
    assert (last.blob, last.remaining_bytes, last.version) == (b"d" * 32, 0, "")


async def test_no_empty_chunk_ends_a_round_size(tmp_path: Path) -> None:
    """N3: an image of exactly two chunks."""
    served = Served(tmp_path)
    served.fill(11, 4000)  # eleven leaves, a branch, a root and the metas fill 16 pages
    served.backend.put("auth", b"k", bytes(4000))
    async with served.stub() as stub:
        messages = [message async for message in stub.Snapshot(rpc_pb2.SnapshotRequest())]
    assert [len(message.blob) for message in messages] == [32_768, 32_768, 32]


async def test_writes_go_on_while_an_image_is_built(tmp_path: Path) -> None:
    """N6: they are answered and are not in it."""
    served = Served(tmp_path)
    served.fill(20_000, 300)
    turns = 0

    async def write() -> None:
        nonlocal turns
        await until(lambda: served.open_views > 0)
        while served.open_views:
            turns += 1
            served.backend.append(revision(100_000 + turns), b"later")
            await asyncio.sleep(0)

    async with served.stub() as stub:
        writing = asyncio.create_task(write())
        messages = [message async for message in stub.Snapshot(rpc_pb2.SnapshotRequest())]
        await writing
    assert turns > 20
    image = b"".join(message.blob for message in messages[:-1])
    assert len(contents(image)[b"key"]) == 20_000


async def test_a_client_that_leaves_lets_everything_go(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.fill(3000, 4000)
    async with served.stub() as stub:
        call = stub.Snapshot(rpc_pb2.SnapshotRequest())
        await call.read()
        call.cancel()
        await until(lambda: served.service.streams == 0)
        assert served.open_views == 0
        messages = [message async for message in stub.Snapshot(rpc_pb2.SnapshotRequest())]
        assert len(messages[-1].blob) == 32


async def test_there_are_only_so_many_at_a_time(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.fill(3000, 4000)
    async with served.stub() as stub:
        calls = [stub.Snapshot(rpc_pb2.SnapshotRequest()) for _ in range(SNAPSHOT_STREAMS_MAX)]
        for call in calls:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Snapshot(rpc_pb2.SnapshotRequest()).read()
        assert refused.value.details() == errors.RequestTooManyRequests.message
        for call in calls:
            call.cancel()


async def test_a_full_disk_is_the_answer_and_no_end(tmp_path: Path) -> None:
    served = Served(tmp_path / "missing")
    served.fill(10, 10)
    async with served.stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Snapshot(rpc_pb2.SnapshotRequest()).read()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "cannot build the snapshot: No such file" in str(refused.value.details())
    assert served.open_views == 0


async def test_a_learner_serves_it(tmp_path: Path) -> None:
    """N6."""
    served = Served(tmp_path)
    served.member.is_learner = True
    async with served.stub() as stub:
        messages = [message async for message in stub.Snapshot(rpc_pb2.SnapshotRequest())]
    assert len(messages[-1].blob) == 32
