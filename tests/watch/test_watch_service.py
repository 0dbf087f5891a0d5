"""The Watch service over the real transport, with a real client (spec/watch.md §1, §5-§7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from kvserver import errors
from kvserver.proto import rpc_pb2, rpc_pb2_grpc
from kvserver.services.gate import Gate
from kvserver.services.leader_guard import LeaderGuard
from kvserver.services.watch import ProgressTicker, WatchService
from tests.support.fake_member import WAIT_SECONDS, FakeMember, serving, until


class Served:
    """A member, its Watch service, and a client."""

    def __init__(self) -> None:
        self.member = FakeMember()
        self.guard = LeaderGuard(self.member, self.member.loop, WAIT_SECONDS)
        self.refusal: errors.RequestError | None = None
        self.asked: list[tuple[bytes, bytes]] = []
        gate = Gate(self.member)
        self.service = WatchService(
            self.member, gate, self.guard, lambda: 0.5, authorize=self.authorize
        )
        self.channel: grpc.aio.Channel

    def authorize(self, stream: object, key: bytes, end: bytes) -> None:
        self.asked.append((key, end))
        if self.refusal is not None:
            raise self.refusal

    def open(self, **metadata: str) -> Client:
        stub = rpc_pb2_grpc.WatchStub(self.channel)
        return Client(stub.Watch(metadata=tuple(metadata.items())))


class Client:
    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self.call = call

    async def create(self, key: bytes, end: bytes = b"", **fields: object) -> None:
        request = rpc_pb2.WatchCreateRequest(key=key, range_end=end, **fields)  # type: ignore[arg-type]
        await self.call.write(rpc_pb2.WatchRequest(create_request=request))

    async def read(self) -> rpc_pb2.WatchResponse:
        response = await asyncio.wait_for(self.call.read(), WAIT_SECONDS)
        assert isinstance(response, rpc_pb2.WatchResponse), "the stream has ended"
        return response

    async def error(self) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(WAIT_SECONDS):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
                raise AssertionError("the stream ended well")
        return caught.value.code(), caught.value.details() or ""


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    async with serving(served.service.methods(2_000_000)) as served.channel:
        yield served
    await until(lambda: not served.member.hub.streams)


async def test_create_event_cancel(served: Served) -> None:  # cases 1, 7
    client = served.open()
    await client.create(b"a")
    created = await client.read()
    assert created.created and created.header.revision == 1
    served.member.commit((b"a", b"1"))
    event = await client.read()
    assert event.events[0].kv.value == b"1" and event.header.revision == 2
    request = rpc_pb2.WatchCancelRequest(watch_id=0)
    await client.call.write(rpc_pb2.WatchRequest(cancel_request=request))
    assert (await client.read()).canceled


async def test_replay_runs_in_the_background(served: Served) -> None:  # case 20
    for number in range(2500):
        served.member.commit((b"a", b"%d" % number))
    client = served.open()
    await client.create(b"a", start_revision=1)
    assert (await client.read()).created
    assert [len((await client.read()).events) for _ in range(3)] == [1000, 1000, 500]


async def test_half_close_does_not_end_the_stream(served: Served) -> None:  # case 28, W13
    client = served.open()
    await client.create(b"a")
    await client.read()
    await client.call.done_writing()
    served.member.commit((b"a", b"1"))
    assert len((await client.read()).events) == 1
    client.call.cancel()


async def test_disconnect_ends_the_watchers(served: Served) -> None:  # W14
    client = served.open()
    await client.create(b"a")
    await client.read()
    assert served.member.hub.watcher_count == 1
    client.call.cancel()
    await until(lambda: not served.member.hub.streams)
    assert served.member.hub.watcher_count == 0


async def test_malformed_request(served: Served) -> None:
    call = served.channel.stream_stream("/etcdserverpb.Watch/Watch")()
    await call.write(b"\x0a\xff")
    code, _ = await Client(call).error()
    assert code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            errors.PermissionDenied,
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        ),
        (
            errors.InvalidAuthToken,
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        ),
        (
            errors.UserEmpty,
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
        ),
        (
            errors.AuthOldRevision,
            "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old",
        ),
    ],
)
async def test_refused_by_auth(
    served: Served, error: type[errors.RequestError], reason: str
) -> None:  # case 32, A1
    served.refusal = error()
    client = served.open()
    await client.create(b"", b"\x00")
    refused = await client.read()
    assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
    assert refused.cancel_reason == reason
    assert served.asked == [(b"\x00", b"\x00")]


async def test_auth_is_asked_only_at_create(served: Served) -> None:  # case 33, A3
    client = served.open()
    await client.create(b"a")
    await client.read()
    served.refusal = errors.PermissionDenied()
    served.member.commit((b"a", b"1"))
    assert len((await client.read()).events) == 1


async def test_hasleader_without_leader(served: Served) -> None:  # case 35, M2
    served.member.has_leader = False
    client = served.open(hasleader="true")
    assert await client.error() == (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
    plain = served.open()
    await plain.create(b"a")
    assert (await plain.read()).created, "M1: no leader is needed for a plain watch"


@pytest.mark.parametrize("half_closed", [False, True])
async def test_open_hasleader_stream_ends_after_three_looks(
    served: Served, half_closed: bool
) -> None:  # case 34, M2
    wants, plain = served.open(hasleader="true"), served.open()
    for client in (wants, plain):
        await client.create(b"a")
        await client.read()
    if half_closed:
        await wants.call.done_writing()
    served.member.has_leader = False
    served.guard.look()
    served.guard.look()
    served.member.has_leader = True
    served.guard.look()
    served.member.has_leader = False
    served.guard.look()
    served.guard.look()
    served.member.commit((b"a", b"1"))
    assert len((await wants.read()).events) == 1, "two looks in a row are not enough"
    served.guard.look()
    assert await wants.error() == (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
    assert len((await plain.read()).events) == 1


async def test_learner_refuses(served: Served) -> None:  # M3
    served.member.is_learner = True
    code, details = await served.open().error()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert details == "etcdserver: rpc not supported for learner"


async def test_slow_client_catches_up(served: Served) -> None:  # D1
    client = served.open()
    await client.create(b"a")
    await client.read()
    value = b"x" * 50_000
    for _ in range(100):  # 5 MB: far more than windows and queue hold
        served.member.commit((b"a", value))
    assert served.member.hub.slow_watcher_count == 1
    revisions: list[int] = []
    while len(revisions) < 100:
        revisions += [e.kv.mod_revision for e in (await client.read()).events]
    assert revisions == list(range(2, 102))
    await until(lambda: served.member.hub.slow_watcher_count == 0)


async def test_progress_request(served: Served) -> None:  # case 25
    client = served.open()
    await client.create(b"a")
    await client.call.write(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))
    assert (await client.read()).created
    answer = await client.read()
    assert (answer.watch_id, answer.header.revision, len(answer.events)) == (-1, 1, 0)


class FakeTimers:
    """A loop's call_later, run by hand."""

    def __init__(self) -> None:
        self.due: list[tuple[float, object]] = []

    def call_later(self, delay: float, callback: object) -> FakeTimers:
        self.due.append((delay, callback))
        return self

    def cancel(self) -> None:
        self.due.clear()


async def test_ticker_goes_on_at_its_interval(served: Served) -> None:  # case 22, G1
    client = served.open()
    await client.create(b"a", progress_notify=True)
    await client.read()
    (watches,) = served.member.hub.streams
    timers = FakeTimers()
    ticker = ProgressTicker(timers, watches, 7.5)  # type: ignore[arg-type]
    for _ in range(2):
        ((delay, tick),) = timers.due
        timers.due.clear()
        assert delay == 7.5
        tick()  # type: ignore[operator]
        assert (await client.read()).header.revision == 1
    ticker.cancel()
    assert timers.due == []


async def test_interval_has_jitter() -> None:  # G1
    served = Served()
    delays: list[float] = []
    loop = served.member.loop

    class Loop:
        def call_later(self, delay: float, callback: object) -> asyncio.TimerHandle:
            delays.append(delay)
            return loop.call_later(delay, lambda: None)

        def create_future(self) -> asyncio.Future[None]:
            return loop.create_future()

    served.member.loop = Loop()  # type: ignore[assignment]
    async with serving(served.service.methods(2_000_000)) as served.channel:
        client = served.open()
        await client.create(b"a")
        await client.read()
    assert delays == [600.0 * 1.05]
