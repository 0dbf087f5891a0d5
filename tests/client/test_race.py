"""One question to several members: who is asked when, and what is done about the silent."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import grpc
import pytest

from kvserver.client import (
    CallFailed,
    Client,
    ClientConfig,
    Endpoint,
    Events,
    Follow,
    Live,
    Resuming,
)
from kvserver.client.failure import TRY_ANOTHER_MEMBER
from kvserver.client.race import Race
from kvserver.proto import rpc_pb2
from tests.support.servers import Server, cluster_kinds, running

GET = rpc_pb2.RangeRequest(key=b"k")
A, B, C = (Endpoint("h", port) for port in (1, 2, 3))
FOREVER = 3600.0
WAIT_SECONDS_MAX = 120.0
"""Only an upper bound for a test that hangs."""


class Failed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


class Members:
    """What each member makes of a call: an answer, a failure, or nothing at all."""

    def __init__(self, **says: object) -> None:
        self.says = says
        self.asked: list[Endpoint] = []
        self.calls: list[Future[object]] = []

    def begin(self, endpoint: Endpoint) -> Future[object]:
        self.asked.append(endpoint)
        call: Future[object] = Future()
        self.calls.append(call)
        said = self.says.get("abc"[endpoint.port - 1])
        if isinstance(said, Exception):
            call.set_exception(said)
        elif said is not None:
            call.set_result(said)
        return call


def test_a_silent_member_gets_company_and_is_let_go() -> None:
    members = Members(b="from b")
    for endpoint, call in Race([A, B, C], members.begin, hedge_seconds=0.0):
        assert (endpoint, call.result()) == (B, "from b")
        break
    assert members.asked == [A, B]
    assert members.calls[0].cancelled()


def test_behind_a_failure_nobody_waits() -> None:
    members = Members(a=Failed(), b=Failed(), c="from c")
    race = Race([A, B, C], members.begin, hedge_seconds=FOREVER)
    assert [endpoint for endpoint, _ in race] == [A, B, C]


def test_one_that_is_not_there_is_given_up() -> None:
    members, looks = Members(), Members(a=Failed(), b=Failed())
    race = Race([A, B], members.begin, hedge_seconds=0.0, look=looks.begin)
    outcomes = {endpoint: call.exception() for endpoint, call in race}
    assert outcomes.keys() == {A, B}
    assert all(isinstance(failed, Failed) for failed in outcomes.values())
    assert all(call.cancelled() for call in members.calls)


@pytest.mark.parametrize("look", ["status", Failed(grpc.StatusCode.PERMISSION_DENIED)])
def test_one_that_is_slow_is_waited_for_and_asked_once_more(look: object) -> None:
    """A refusal is a sign of life too."""
    members, looks = Members(), Members(a=look)
    race = iter(Race([A], members.begin, hedge_seconds=0.0, look=looks.begin, again_seconds=0.0))
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(next(race)[1].result()))
    thread.start()
    wait_until(lambda: len(members.calls) == 2)
    members.calls[1].set_result("late")
    thread.join(WAIT_SECONDS_MAX)
    assert found == ["late"]
    assert (members.asked, looks.asked) == ([A, A], [A])


def wait_until(condition) -> None:  # type: ignore[no-untyped-def]
    turn = threading.Event()
    for _ in range(int(WAIT_SECONDS_MAX / 0.01)):
        if condition():
            return
        turn.wait(0.01)
    raise AssertionError("it never came to it")


def within_bounds(call) -> object:  # type: ignore[no-untyped-def]
    """The call's result. Its own deadline is ten minutes: what waits for that fails here."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS_MAX)
    assert found, "it waited for the member that stands still"
    return found[0]


@pytest.fixture(scope="module", params=cluster_kinds())
def three(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[list[Server]]:
    with running(request.param, tmp_path_factory.mktemp("three"), size=3) as servers:
        yield servers


class Standing:
    """A member that is stopped in the middle of everything: its connections stay open."""

    def __init__(self, server: Server) -> None:
        assert server.process
        self._pid = server.process.pid

    def __enter__(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGCONT)


@pytest.mark.e2e
@pytest.mark.parametrize("number", [0, 1, 2])
def test_no_member_that_stands_still_holds_up_a_read_or_a_write(
    three: list[Server], number: int
) -> None:
    """The leader is one of them."""
    endpoints = tuple(server.endpoint for server in three)
    client = Client(ClientConfig(endpoints[number:] + endpoints[:number]))
    get_until_answered(client)  # connected to the one that stops
    with Standing(three[number]):
        within_bounds(lambda: get_until_answered(client))
        within_bounds(lambda: put_until_taken(client))
        within_bounds(lambda: get_until_answered(client))
    client.close()


def get_until_answered(client: Client) -> object:
    """A busy cluster may take longer for an election than it lets a read wait for one."""
    while True:
        try:
            return client.read(lambda s: s.kv.Range, GET, 600)
        except CallFailed as error:
            assert error.code in TRY_ANOTHER_MEMBER, error


def put_until_taken(client: Client) -> int:
    """The revision. A put that met an election is sent again: it is always the same one."""
    while True:
        try:
            put = rpc_pb2.PutRequest(key=b"/standing", value=b"v")
            return int(client.write(lambda s: s.kv.Put, put, 600).header.revision)
        except CallFailed:
            get_until_answered(client)


@pytest.mark.e2e
def test_a_watch_leaves_a_member_that_stands_still(three: list[Server], monkeypatch) -> None:
    monkeypatch.setattr("kvserver.client.watch.SILENT_SECONDS", 0.2)
    endpoints = tuple(server.endpoint for server in three)
    client = Client(ClientConfig(endpoints, keepalive_seconds=3600))
    get_until_answered(client)  # there is a leader
    revision = put_until_taken(client)
    follow = Follow(client, rpc_pb2.WatchCreateRequest(key=b"/standing"), start=revision + 1)
    items = iter(follow)
    assert isinstance(within_bounds(lambda: next(items)), Live)
    [serving] = [server for server in three if server.endpoint == follow.endpoint]
    with Standing(serving):
        within_bounds(lambda: get_until_answered(client))  # there is one again
        within_bounds(lambda: put_until_taken(client))
        seen = [within_bounds(lambda: next(items))]
        while not isinstance(seen[-1], Events):
            seen.append(within_bounds(lambda: next(items)))
    assert any(isinstance(item, Resuming) for item in seen)
    assert seen[-1].events[0].kv.mod_revision > revision
    follow.close()
    client.close()
