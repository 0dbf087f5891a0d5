"""A member that dies at a named place loses nothing it acknowledged (verification.md, rung 8)."""

from __future__ import annotations

import contextlib
import http.client

import grpc
import pytest

from kvserver import failpoints
from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.e2e.ledger import Ledger, Load, audit
from tests.e2e.test_crashes import Housekeeping
from tests.support.etcd_binaries import REPOSITORY
from tests.support.served import skip_unless_served
from tests.support.servers_proc import ServerProcess, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DEATH_SECONDS_MAX = 90
UNDER_WRITES = (
    "raftBeforeSave",
    "raftAfterSave",
    "raftBeforeSaveSnap",
    "raftAfterSaveSnap",
    "beforeApplyOneEntryNormal",
    "beforeCommit",
    "afterCommit",
)
UNDER_COMPACTION = (
    "compactBeforeCommitScheduledCompact",
    "compactAfterCommitScheduledCompact",
    "compactBeforeCommitBatch",
    "compactAfterCommitBatch",
    "compactBeforeSetFinishedCompact",
    "compactAfterSetFinishedCompact",
)
UNDER_DEFRAGMENTATION = ("defragBeforeCopy", "defragBeforeRename")


def is_placed(name: str) -> bool:
    """Whether our flow has the moment at all: some module but the list itself names it."""
    sources = (REPOSITORY / "kvserver").rglob("*.py")
    return any(f'"{name}"' in p.read_text() for p in sources if p.name != "failpoints.py")


def test_every_name_has_its_place() -> None:
    """verification.md, run-time contract: etcd's names, wherever our flow has the same moment."""
    assert {name for name in failpoints.NAMES if not is_placed(name)} == set()
    assert len(failpoints.NAMES) == 24


class Failpoints:
    """The endpoint that `GOFAIL_HTTP` opens."""

    def __init__(self, port: int) -> None:
        self._port = port

    def request(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def arm(self, name: str, term: str) -> None:
        status, text = self.request("PUT", f"/{name}", term)
        assert status < 300, text


@pytest.fixture
def member(make_member, failpoint_port: int) -> ServerProcess:  # type: ignore[no-untyped-def]
    """A running member with the failpoint endpoint and frequent snapshots."""
    made: ServerProcess = make_member(
        "--snapshot-count=100", environment={"GOFAIL_HTTP": f"127.0.0.1:{failpoint_port}"}
    )
    made.start()
    return made


@pytest.mark.parametrize("name", UNDER_WRITES + UNDER_COMPACTION + UNDER_DEFRAGMENTATION)
def test_death_at_a_place(member: ServerProcess, failpoint_port: int, name: str) -> None:
    ledger = Ledger()
    with contextlib.ExitStack() as stack:
        load = stack.enter_context(Load(member, ledger, 0))
        load.wait_for(100)
        if name not in UNDER_WRITES:
            defragment = name in UNDER_DEFRAGMENTATION
            stack.enter_context(Housekeeping(member, defragment=defragment))
        Failpoints(failpoint_port).arm(name, "panic")
        wait_until(lambda: not member.running(), DEATH_SECONDS_MAX, f"{name} is reached")
    member.start()
    audit(member, ledger)
    # It goes on working, through the place that killed it.
    with Load(member, ledger, 1) as load:
        load.wait_for(300)
        assert load.alive, member.log()
    audit(member, ledger)


def test_death_at_a_membership_change(member: ServerProcess, failpoint_port: int) -> None:
    """A learner whose addition was in flight is added or is not: never half."""
    skip_unless_served(member, "/etcdserverpb.Cluster/MemberAdd")
    Failpoints(failpoint_port).arm("beforeApplyOneConfChange", "panic")
    add = rpc.MemberAddRequest(peerURLs=["http://127.0.0.1:9"], isLearner=True)
    with grpc.insecure_channel(member.endpoint) as channel, pytest.raises(grpc.RpcError):
        services.ClusterStub(channel).MemberAdd(add, timeout=DEATH_SECONDS_MAX)
    member.wait_exit(DEATH_SECONDS_MAX)
    member.start()
    with grpc.insecure_channel(member.endpoint) as channel:
        listed = services.ClusterStub(channel).MemberList(rpc.MemberListRequest(), timeout=60)
        assert len(listed.members) in (1, 2)
        assert [m.isLearner for m in listed.members if "127.0.0.1:9" in str(m)] in ([], [True])


def test_endpoint_lists_arms_and_disarms(member: ServerProcess, failpoint_port: int) -> None:
    """verification.md, run-time contract."""
    endpoint = Failpoints(failpoint_port)
    status, text = endpoint.request("GET", "/")
    assert status == 200
    names = {line.partition("=")[0] for line in text.splitlines()}
    assert names == set(failpoints.NAMES)
    endpoint.arm("raftBeforeSave", 'sleep("1ms")')
    assert 'raftBeforeSave=sleep("1ms")' in endpoint.request("GET", "/")[1]
    assert endpoint.request("DELETE", "/raftBeforeSave")[0] < 300
    assert "raftBeforeSave=\n" in endpoint.request("GET", "/")[1]
    assert endpoint.request("PUT", "/noSuchPlace", "panic")[0] >= 400
