"""A member as a whole: quota and alarms, restarts, expiry, refusals, a loop that stays free."""

import asyncio
from pathlib import Path

import grpc.aio
import pytest

from kvserver.datadir import DataDirLocked
from kvserver.errors import FatalError
from kvserver.proto import rpc_pb2
from tests.support.in_process import Member, running


async def refused(call: grpc.aio.UnaryUnaryCall) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


NO_SPACE = (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")


async def test_quota_alarm_and_recovery(tmp_path: Path) -> None:
    """spec/kv.md cases 33 to 35, L4 to L7; spec/storage.md test case 18."""
    async with running(tmp_path, quota_backend_bytes=1_048_576) as member:
        kv, maintenance = member.kv, member.maintenance
        puts = 0
        with pytest.raises(grpc.aio.AioRpcError) as full:
            for puts in range(50):
                await kv.Put(rpc_pb2.PutRequest(key=b"big%d" % puts, value=b"x" * 100_000))
        assert (full.value.code(), full.value.details()) == NO_SPACE
        assert 3 <= puts <= 12
        keyless = rpc_pb2.PutRequest(value=b"x" * 100_000)
        assert await refused(kv.Put(keyless)) == NO_SPACE, "weighed before it is validated"
        alarms = await maintenance.Alarm(rpc_pb2.AlarmRequest())
        assert [alarm.alarm for alarm in alarms.alarms] == [rpc_pb2.NOSPACE]
        lease = rpc_pb2.LeaseGrantRequest(TTL=10)
        assert await refused(member.lease.LeaseGrant(lease)) == NO_SPACE
        put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k", value=b"v"))
        read = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"k"))
        txn = rpc_pb2.TxnRequest(success=[read], failure=[put])
        assert await refused(kv.Txn(txn)) == NO_SPACE
        deleted = await kv.DeleteRange(rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
        assert deleted.deleted > 0
        await kv.Compact(rpc_pb2.CompactionRequest(revision=deleted.header.revision, physical=True))
        await maintenance.Defragment(rpc_pb2.DefragmentRequest())
        small = rpc_pb2.PutRequest(key=b"k", value=b"v")
        assert await refused(kv.Put(small)) == NO_SPACE, "the alarm lasts until it is disarmed"
        for alarm in alarms.alarms:
            await maintenance.Alarm(
                rpc_pb2.AlarmRequest(
                    action=rpc_pb2.AlarmRequest.DEACTIVATE,
                    memberID=alarm.memberID,
                    alarm=alarm.alarm,
                )
            )
        await kv.Put(small)


async def test_a_corrupt_cluster_takes_no_writes(tmp_path: Path) -> None:
    """spec/kv.md case 36, spec/lease.md case 30, spec/maintenance.md case 7."""
    async with running(tmp_path) as member:
        for kind in (rpc_pb2.NOSPACE, rpc_pb2.CORRUPT):
            await member.maintenance.Alarm(
                rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=7, alarm=kind)
            )
        corrupt = (grpc.StatusCode.DATA_LOSS, "etcdserver: corrupt cluster")
        for call in (
            member.kv.Put(rpc_pb2.PutRequest(key=b"k")),
            member.kv.DeleteRange(rpc_pb2.DeleteRangeRequest(key=b"k")),
            member.kv.Compact(rpc_pb2.CompactionRequest(revision=1)),
            member.lease.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=1)),
        ):
            assert await refused(call) == corrupt
        await member.kv.Range(rpc_pb2.RangeRequest(key=b"k"))
        await member.kv.Txn(rpc_pb2.TxnRequest())
        status = await member.maintenance.Status(rpc_pb2.StatusRequest())
        assert list(status.errors) == ["memberID:7 alarm:NOSPACE ", "memberID:7 alarm:CORRUPT "]


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """Keys, history, leases with their keys, alarms, the compact revision; the term rises."""
    async with running(tmp_path) as member:
        lease = await member.lease.LeaseGrant(rpc_pb2.LeaseGrantRequest(TTL=8000))
        await member.kv.Put(rpc_pb2.PutRequest(key=b"a", value=b"1"))
        await member.kv.Put(rpc_pb2.PutRequest(key=b"a", value=b"2", lease=lease.ID))
        await member.kv.Put(rpc_pb2.PutRequest(key=b"b", value=b"x"))
        await member.kv.DeleteRange(rpc_pb2.DeleteRangeRequest(key=b"b"))
        await member.kv.Compact(rpc_pb2.CompactionRequest(revision=2, physical=True))
        before = await member.maintenance.HashKV(rpc_pb2.HashKVRequest())
        status = await member.maintenance.Status(rpc_pb2.StatusRequest())
    async with running(tmp_path) as member:
        found = await member.kv.Range(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
        assert [(kv.key, kv.value, kv.version, kv.lease) for kv in found.kvs] == [
            (b"a", b"2", 2, lease.ID)
        ]
        assert found.header.revision == 5
        assert found.header.raft_term > status.raftTerm
        ttl = await member.lease.LeaseTimeToLive(
            rpc_pb2.LeaseTimeToLiveRequest(ID=lease.ID, keys=True)
        )
        assert (ttl.grantedTTL, list(ttl.keys)) == (8000, [b"a"])
        assert ttl.TTL >= 7000
        after = await member.maintenance.HashKV(rpc_pb2.HashKVRequest())
        assert (after.hash, after.compact_revision) == (before.hash, before.compact_revision)
        old = rpc_pb2.RangeRequest(key=b"a", revision=1)
        code, _ = await refused(member.kv.Range(old))
        assert code is grpc.StatusCode.OUT_OF_RANGE


async def test_a_lease_expires_with_its_keys_in_one_revision(tmp_path: Path) -> None:
    """spec/lease.md cases 19 and 20."""
    async with running(tmp_path) as member:
        lease = await member.lease.LeaseGrant(rpc_pb2.LeaseGrantRequest(TTL=1))
        assert lease.TTL == 2, "the least TTL"
        for key in (b"e2", b"e1"):
            await member.kv.Put(rpc_pb2.PutRequest(key=key, lease=lease.ID))
        call = member.watch.Watch()
        create = rpc_pb2.WatchCreateRequest(key=b"e", range_end=b"f")
        await call.write(rpc_pb2.WatchRequest(create_request=create))
        assert (await call.read()).created
        async with asyncio.timeout(60):
            events = (await call.read()).events
        assert [(event.type, event.kv.key) for event in events] == [(1, b"e1"), (1, b"e2")]
        ttl = await member.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=lease.ID))
        assert ttl.TTL == -1
        call.cancel()


async def test_a_put_too_large_is_refused_and_a_large_one_taken(tmp_path: Path) -> None:
    """spec/kv.md case 37."""
    async with running(tmp_path) as member:
        await member.kv.Put(rpc_pb2.PutRequest(key=b"k", value=b"x" * 1_572_764))
        code, text = await refused(
            member.kv.Put(rpc_pb2.PutRequest(key=b"k", value=b"x" * 1_572_844))
        )
        assert (code, text) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "etcdserver: request is too large",
        )
        code, text = await refused(
            member.kv.Put(rpc_pb2.PutRequest(key=b"k", value=b"x" * 2_097_162))
        )
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert text.startswith("grpc: received message larger than max (")
        found = await member.kv.Range(rpc_pb2.RangeRequest(key=b"k"))
        assert found.kvs[0].version == 1


async def test_a_large_range_is_answered_in_slices_between_other_work(tmp_path: Path) -> None:
    """Design D6: while a range over many keys runs, single reads are answered."""
    async with running(tmp_path) as member:
        ops = 100
        for start in range(0, 20_000, ops):
            txn = rpc_pb2.TxnRequest()
            for number in range(start, start + ops):
                txn.success.add().request_put.key = b"k%08d" % number
            await member.kv.Txn(txn)
        everything = rpc_pb2.RangeRequest(key=b"k", range_end=b"l")
        large = asyncio.ensure_future(_finish(member, everything))
        small = 0
        while not large.done():
            await member.kv.Range(rpc_pb2.RangeRequest(key=b"k00000001"))
            small += 1
        assert (await large).count == 20_000
        assert small >= 2


async def _finish(member: Member, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
    return await member.kv.Range(request)


async def test_auto_compaction_by_revisions_and_by_time_are_wired(tmp_path: Path) -> None:
    """spec/kv.md A3 with a retention of one second."""
    flags = {"auto_compaction_mode": "periodic", "auto_compaction_retention": "1s"}
    async with running(tmp_path, **flags) as member:
        await member.kv.Put(rpc_pb2.PutRequest(key=b"a"))
        await member.kv.Put(rpc_pb2.PutRequest(key=b"a"))
        async with asyncio.timeout(60):
            while not member.log.find("finished scheduled compaction"):
                await member.kv.Range(rpc_pb2.RangeRequest(key=b"a"))


async def test_the_log_is_cut_and_snapshots_follow(tmp_path: Path) -> None:
    """spec/storage.md test case 3: a snapshot after more than snapshot-count entries."""
    async with running(tmp_path, snapshot_count=50, snapshot_catchup_entries=10) as member:
        async with asyncio.timeout(60):
            while not member.log.find("saved snapshot"):
                await member.kv.Put(rpc_pb2.PutRequest(key=b"k"))
    assert list((tmp_path / "member" / "snap").glob("*.snap"))
    async with running(tmp_path) as member:
        assert (await member.kv.Range(rpc_pb2.RangeRequest(key=b"k"))).count == 1


async def test_a_second_server_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    """spec/storage.md test case 13."""
    async with running(tmp_path) as member:
        with pytest.raises(DataDirLocked, match="in use by another server"):
            async with running(tmp_path):
                pytest.fail("it started")
        await member.kv.Put(rpc_pb2.PutRequest(key=b"unharmed"))


async def test_nobody_is_joined_who_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="cannot fetch cluster info from peer urls"):
        async with running(tmp_path, initial_cluster_state="existing"):
            pytest.fail("it started")


async def test_a_callback_that_fails_stops_the_member(tmp_path: Path) -> None:
    """An apply never fails on one member only: whatever is unforeseen is fatal."""
    async with running(tmp_path) as member:
        error = FatalError("the index lost a record")

        def fail() -> None:
            raise error

        asyncio.get_running_loop().call_soon(fail)
        with pytest.raises(FatalError, match="lost a record"):
            async with asyncio.timeout(60):
                await member.server.wait()


async def test_hash_of_the_backend_changes_with_its_contents(tmp_path: Path) -> None:
    """spec/kv.md X6."""
    async with running(tmp_path) as member:
        hashes = []
        for value in (b"1", b"2"):
            await member.kv.Put(rpc_pb2.PutRequest(key=b"k", value=value))
            hashes.append((await member.maintenance.Hash(rpc_pb2.HashRequest())).hash)
        again = (await member.maintenance.Hash(rpc_pb2.HashRequest())).hash
        assert hashes[0] != hashes[1] == again


async def test_defragmentation_waits_for_a_job_that_carries_nothing_new(tmp_path: Path) -> None:
    """A flush of marks alone may be under way when everything is durable already."""
    async with running(tmp_path) as member:
        storage = member.server._core.storage
        await member.kv.Put(rpc_pb2.PutRequest(key=b"k"))
        durable = asyncio.Event()
        storage.when_durable(durable.set)
        await durable.wait()
        storage.backend.commit_marks(storage.backend.marks.consistent_index, 2, b"")
        storage.flush_now()
        await member.maintenance.Defragment(rpc_pb2.DefragmentRequest())
        assert member.log.find("finished defragment")


async def test_a_client_that_does_not_only_write_is_company(tmp_path: Path) -> None:
    """runtime/company.py: no read waits for a disk that stalls."""
    async with running(tmp_path) as member:
        loop = member.server._core.member

        def others() -> int:
            return loop.company.count_messages() - loop._proposals.taken

        before = others()
        for _ in range(3):
            await member.kv.Put(rpc_pb2.PutRequest(key=b"k"))
        assert others() == before
        await member.kv.Range(rpc_pb2.RangeRequest(key=b"k", serializable=True))
        assert others() == before + 1
        assert (await member.get("/v3/kv/range", "POST"))[0] in {200, 400}
        assert others() == before + 2
