"""The Lease service over the real transport, with a real client (spec/lease.md §2-§7, §12)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
import grpc.aio
import pytest

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.proto import rpc_pb2, rpc_pb2_grpc
from kvserver.services.gate import Gate
from kvserver.services.leader_guard import LeaderGuard
from kvserver.services.lease import Authorize, LeaderLeases, LeaseService
from tests.support.fake_member import WAIT_SECONDS, FakeMember, serving, until

NO_LEADER = (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")


class Served:
    """A member, its Lease service, and a client."""

    def __init__(
        self, leader: LeaderLeases | None = None, authorize: Authorize | None = None
    ) -> None:
        self.member = FakeMember(checkpoints=True)
        self.lessor = self.member.lessor
        self.guard = LeaderGuard(self.member, self.member.loop, WAIT_SECONDS)
        self.service = LeaseService(self.member, Gate(self.member), self.guard, leader, authorize)
        self.channel: grpc.aio.Channel

    @property
    def stub(self) -> rpc_pb2_grpc.LeaseStub:
        return rpc_pb2_grpc.LeaseStub(self.channel)

    async def grant(self, lease_id: int, ttl: int) -> rpc_pb2.LeaseGrantResponse:
        request = rpc_pb2.LeaseGrantRequest(ID=lease_id, TTL=ttl)
        return await self.stub.LeaseGrant(request)

    async def time_to_live(self, lease_id: int, keys: bool = False) -> tuple[int, int, set[bytes]]:
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        answer = await self.stub.LeaseTimeToLive(request)
        assert (answer.ID, answer.header.cluster_id) == (lease_id, 7)
        return answer.TTL, answer.grantedTTL, set(answer.keys)

    def keep_alive(self, **metadata: str) -> KeepAlive:
        return KeepAlive(self.stub.LeaseKeepAlive(metadata=tuple(metadata.items())))


class KeepAlive:
    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self.call = call

    async def send(self, *ids: int) -> None:
        for lease_id in ids:
            await self.call.write(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id))

    async def read(self) -> tuple[int, int]:
        answer = await asyncio.wait_for(self.call.read(), WAIT_SECONDS)
        assert isinstance(answer, rpc_pb2.LeaseKeepAliveResponse), "the stream has ended"
        assert answer.header.member_id == 9
        return answer.ID, answer.TTL


async def status(awaitable: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(awaitable, WAIT_SECONDS)  # type: ignore[arg-type]
    return caught.value.code(), caught.value.details() or ""


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    async with serving(served.service.methods(2_000_000)) as served.channel:
        yield served


async def test_grant(served: Served) -> None:  # cases 1, 2, 3, 5, G5
    answer = await served.grant(0, 10)
    assert answer.ID > 0 and answer.TTL == 10 and answer.error == ""
    assert answer.header.revision == 1
    assert (await served.grant(7, 1)).TTL == 2
    assert await status(served.grant(7, 10)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "etcdserver: lease already exists",
    )
    assert await status(served.grant(7, 9_000_000_001)) == (
        grpc.StatusCode.OUT_OF_RANGE,
        "etcdserver: too large lease TTL",
    )


async def test_picked_ids_are_unique(served: Served) -> None:  # G2
    ids = {(await served.grant(0, 10)).ID for _ in range(5)}
    assert len(ids) == 5 and all(0 < lease_id < 2**63 for lease_id in ids)
    assert {request.ID for _, request in served.member.proposed} == ids


async def test_grant_without_room(served: Served) -> None:  # case 29, G1
    served.member.has_room = False
    code, details = await status(served.grant(1, 10))
    assert (code, details) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "etcdserver: mvcc: database space exceeded",
    )
    assert served.member.proposed == []


async def test_revoke(served: Served) -> None:  # cases 14, 15, V3
    await served.grant(100, 60)
    served.member.commit((b"z", b""), (b"zz", b""), (b"b", b""))
    for key in (b"z", b"zz", b"b"):
        served.lessor.attach(100, key)
    answer = await served.stub.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=100))
    assert answer.header.revision == 3
    assert [e.kv.key for e in served.member.store.truth[3]] == [b"b", b"z", b"zz"]
    again = served.stub.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=100))
    assert await status(again) == (
        grpc.StatusCode.NOT_FOUND,
        "etcdserver: requested lease not found",
    )


async def test_time_to_live(served: Served) -> None:  # cases 7, 8
    await served.grant(100, 60)
    for key in (b"z", b"a", b"m"):
        served.lessor.attach(100, key)
    served.member.clock.now += 0.01
    assert await served.time_to_live(100, keys=True) == (59, 60, {b"a", b"m", b"z"})
    assert await served.time_to_live(100) == (59, 60, set())
    assert await served.time_to_live(555, keys=True) == (-1, 0, set())
    assert await served.time_to_live(0) == (-1, 0, set())


async def test_time_to_live_waits_for_what_is_committed(served: Served) -> None:  # T3
    served.member.node.committed += 1
    served.member.late.append(lambda: served.lessor.grant(9, 60, served.member.clock.now))
    assert await served.time_to_live(9) == (60, 60, set())


async def test_leases(served: Served) -> None:  # case 6, L1
    assert list((await served.stub.LeaseLeases(rpc_pb2.LeaseLeasesRequest())).leases) == []
    for lease_id, ttl in ((1, 30), (2, 9_000_000_000), (3, 2), (-4, 10)):
        await served.grant(lease_id, ttl)
    answer = await served.stub.LeaseLeases(rpc_pb2.LeaseLeasesRequest())
    assert [lease.ID for lease in answer.leases] == [3, -4, 1, 2]
    served.lessor.demote()
    assert len((await served.stub.LeaseLeases(rpc_pb2.LeaseLeasesRequest())).leases) == 4


async def test_keep_alive(served: Served) -> None:  # case 18, K1, K3, K9
    await served.grant(101, 60)
    client = served.keep_alive()
    await client.send(101, 555, 0, 101)
    await client.call.done_writing()
    assert [await client.read() for _ in range(4)] == [(101, 60), (555, 0), (0, 0), (101, 60)]
    assert await client.call.read() is grpc.aio.EOF
    assert await client.call.code() is grpc.StatusCode.OK


async def test_keep_alive_moves_the_deadline(served: Served) -> None:  # K2
    await served.grant(101, 60)
    client = served.keep_alive()
    served.member.clock.now += 59.0
    await client.send(101)
    assert await client.read() == (101, 60)
    served.member.clock.now += 2.0
    assert await served.time_to_live(101) == (58, 60, set())
    client.call.cancel()


async def test_many_keep_alives_on_one_stream(served: Served) -> None:  # K1
    for lease_id in range(1, 51):
        served.lessor.grant(lease_id, 60, served.member.clock.now)
    client = served.keep_alive()
    for _ in range(4):
        await client.send(*range(1, 51))
        assert [await client.read() for _ in range(50)] == [(i, 60) for i in range(1, 51)]
    client.call.cancel()


async def test_expired_lease_answers_after_the_revoke(served: Served) -> None:  # cases 20, 34, K4
    await served.grant(5, 10)
    client = served.keep_alive()
    served.member.clock.now += 10.01
    await client.send(5)
    await until(lambda: served.lessor.waiting_count == 1)
    served.lessor.revoke(5)
    assert await client.read() == (5, 0)
    client.call.cancel()


async def test_leadership_lost_while_waiting_for_the_revoke(served: Served) -> None:  # K4
    await served.grant(5, 10)
    client = served.keep_alive()
    served.member.clock.now += 10.01
    await client.send(5)
    await until(lambda: served.lessor.waiting_count == 1)
    served.lessor.demote()
    served.lessor.promote(served.member.clock.now, 1.0)
    assert await client.read() == (5, 10), "promotion gave it a new deadline, so it may be renewed"
    client.call.cancel()


async def test_unknown_lease_in_an_entry_not_applied_yet(served: Served) -> None:  # K7
    served.member.node.committed += 1
    served.member.late.append(lambda: served.lessor.grant(9, 60, served.member.clock.now))
    client = served.keep_alive()
    await client.send(9)
    assert await client.read() == (9, 60)
    client.call.cancel()


async def test_a_leader_that_stood_still_asks_before_it_renews(served: Served) -> None:  # K7
    """Its successor may have ended the lease meanwhile."""
    member = served.member
    await served.grant(5, 60)
    member.has_stalled = True
    member.late.append(lambda: served.lessor.revoke(5))
    alive = served.keep_alive()
    await alive.send(5)
    assert await alive.read() == (5, 0)
    assert not member.has_stalled


async def test_checkpointed_lease_is_cleared_first(served: Served) -> None:  # K10
    await served.grant(9, 1000)
    served.lessor.checkpoint(9, 700, served.member.clock.now)
    client = served.keep_alive()
    await client.send(9)
    assert await client.read() == (9, 1000)
    kind, request = served.member.proposed[-1]
    assert kind is Kind.LEASE_CHECKPOINT
    assert [(c.ID, c.remaining_TTL) for c in request.checkpoints] == [(9, 0)]
    client.call.cancel()


async def test_waits_for_a_primary(served: Served) -> None:  # K6, T1
    await served.grant(5, 10)
    served.lessor.demote()
    client = served.keep_alive()
    await client.send(5)
    asking = asyncio.ensure_future(served.time_to_live(5))
    await until(lambda: served.lessor.waiting_count == 1)
    served.lessor.promote(served.member.clock.now, 1.0)
    assert await client.read() == (5, 10)
    assert (await asking)[1] == 10
    client.call.cancel()


async def test_no_leader_in_time(served: Served) -> None:  # case 25, K6, T3
    served.lessor.demote()
    served.member.request_timeout_seconds = 0.0
    client = served.keep_alive()
    await client.send(5)
    assert await status(client.call.read()) == NO_LEADER
    assert await status(served.time_to_live(5)) == NO_LEADER


async def test_hasleader(served: Served) -> None:  # case 26, K8
    open_before = served.keep_alive(hasleader="true")
    await open_before.send(1)
    await open_before.read()
    served.member.has_leader = False
    client = served.keep_alive(hasleader="true")
    assert await status(client.call.read()) == NO_LEADER
    for _ in range(3):
        served.guard.look()
    assert await status(open_before.call.read()) == NO_LEADER


class FakeLeader:
    """Another member that leads; it has lease 100 and is slow about 13."""

    async def renew(self, lease_id: int) -> int:
        if lease_id == 13:
            raise errors.Timeout
        return 60 if lease_id == 100 else 0

    async def time_to_live(
        self, request: rpc_pb2.LeaseTimeToLiveRequest
    ) -> rpc_pb2.LeaseTimeToLiveResponse:
        header = rpc_pb2.ResponseHeader(member_id=1)
        return rpc_pb2.LeaseTimeToLiveResponse(header=header, ID=request.ID, TTL=59)


async def test_forwarding() -> None:  # cases 23, 27, K6, T1
    served = Served(leader=FakeLeader())
    served.lessor.demote()
    async with serving(served.service.methods(2_000_000)) as served.channel:
        client = served.keep_alive()
        await client.send(100, 101)
        assert [await client.read() for _ in range(2)] == [(100, 60), (101, 0)]
        assert (await served.time_to_live(100))[0] == 59
        await client.send(13)
        assert await status(client.call.read()) == (
            grpc.StatusCode.UNAVAILABLE,
            "etcdserver: request timed out",
        )


async def test_permissions() -> None:  # G1, K11, L2, T4, V4
    asked: list[tuple[str, list[bytes]]] = []

    def authorize(call: object, access: str, keys: Iterable[bytes]) -> None:
        asked.append((access, list(keys)))
        if b"secret" in asked[-1][1]:
            raise errors.PermissionDenied

    served = Served(authorize=authorize)
    denied = (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
    async with serving(served.service.methods(2_000_000)) as served.channel:
        await served.grant(50, 60)
        served.lessor.attach(50, b"secret")
        assert await status(served.time_to_live(50, keys=True)) == denied
        assert (await served.time_to_live(50))[1] == 60
        assert await status(served.stub.LeaseLeases(rpc_pb2.LeaseLeasesRequest())) == denied
        client = served.keep_alive()
        await client.send(50)
        assert await status(client.call.read()) == denied
    assert asked == [
        ("write", []),
        ("read", [b"secret"]),
        ("read", [b"secret"]),
        ("write", [b"secret"]),
    ]
