"""Scripts where chance would rarely go: limits, long histories, fragments, locks and elections.

Each script runs on a real etcd and on Keydeck and is judged like a random sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kvserver.proto import election_pb2 as election
from kvserver.proto import lock_pb2 as lock
from kvserver.proto import rpc_pb2 as rpc
from tests.compat import compare
from tests.compat.conftest import StartMember
from tests.compat.driver import KV, LEASE, MAINTENANCE, Driver
from tests.compat.operations import World
from tests.support.etcd_binaries import EtcdRelease
from tests.support.served import skip_unless_served
from tests.support.servers_proc import ServerProcess

pytestmark = [pytest.mark.compat, pytest.mark.e2e]

LOCK, ELECTION = "/v3lockpb.Lock/", "/v3electionpb.Election/"
compare.REQUESTS |= {
    LOCK + "Lock": lock.LockRequest,
    LOCK + "Unlock": lock.UnlockRequest,
    ELECTION + "Campaign": election.CampaignRequest,
    ELECTION + "Proclaim": election.ProclaimRequest,
    ELECTION + "Leader": election.LeaderRequest,
    ELECTION + "Resign": election.ResignRequest,
}
compare.RESPONSES |= {
    LOCK + "Lock": lock.LockResponse,
    LOCK + "Unlock": lock.UnlockResponse,
    ELECTION + "Campaign": election.CampaignResponse,
    ELECTION + "Proclaim": election.ProclaimResponse,
    ELECTION + "Leader": election.LeaderResponse,
    ELECTION + "Resign": election.ResignResponse,
}
MAX_REQUEST_BYTES = 100_000


class Pair:
    """Two members asked the same things."""

    def __init__(self, reference: Driver, subject: Driver, subject_process: ServerProcess) -> None:
        self.drivers = (reference, subject)
        self.subject_process = subject_process
        versions = []
        for driver in self.drivers:
            body = driver.do_call(MAINTENANCE + "Status", b"")[2]
            versions.append(rpc.StatusResponse.FromString(body).version)
        self.judge = compare.Judge(versions[0], versions[1], World())

    def run(self, *operations: tuple[Any, ...]) -> list[Any]:
        """Run on both; returns the reference's answers once they are found equal."""
        answers = [driver.run(list(operations)) for driver in self.drivers]
        self.judge.calls(operations, *answers)
        assert not self.judge.differences, "\n".join(str(d)[:3000] for d in self.judge.differences)
        return answers[0]

    def call(self, path: str, request: Any) -> tuple[int, str, Any]:
        code, details, body = self.run(("call", path, request.SerializeToString()))[0]
        return code, details, compare.RESPONSES[path].FromString(body)

    def watch(
        self, create: rpc.WatchCreateRequest, enough: Callable[[list[Any]], Any]
    ) -> list[Any]:
        """A new stream on both with one watcher; each side's responses once there are enough."""
        request = rpc.WatchRequest(create_request=create).SerializeToString()
        told = []
        for driver in self.drivers:
            driver.do_watch(9, request, True)

            def responses(replies: list[bytes]) -> list[rpc.WatchResponse]:
                return [rpc.WatchResponse.FromString(reply) for reply in replies]

            log = driver._watch(9)
            log.wait_for(lambda replies: enough(responses(replies)), "watch responses")
            told.append(responses(log.replies))
            driver.do_forget(9)
        return told


@pytest.fixture
def pair(
    release: EtcdRelease, start_etcd: StartMember, start_subject: StartMember
) -> Iterator[Pair]:
    flags = [f"--max-request-bytes={MAX_REQUEST_BYTES}"]
    members = (start_etcd(release, flags=flags), start_subject(flags=flags))
    drivers = (Driver(members[0].endpoint), Driver(members[1].endpoint))
    yield Pair(*drivers, members[1])
    for driver in drivers:
        driver.close()


def test_sizes_of_requests(pair: Pair) -> None:
    """spec/kv.md L1, L2: a proposal's limit and the transport's, each with its own error."""
    for size in (MAX_REQUEST_BYTES - 200, MAX_REQUEST_BYTES + 200):
        pair.call(KV + "Put", rpc.PutRequest(key=b"k", value=bytes(size)))
    code, details, _ = pair.call(KV + "Put", rpc.PutRequest(key=b"k", value=bytes(700_000)))
    assert (code, details[:38]) == (8, "grpc: received message larger than max")
    op = rpc.RequestOp(request_put=rpc.PutRequest(key=b"t", value=bytes(MAX_REQUEST_BYTES)))
    pair.call(KV + "Txn", rpc.TxnRequest(success=[op]))
    # Bigger than a request may be, but only a read: no proposal, no limit.
    read = rpc.RangeRequest(key=bytes(MAX_REQUEST_BYTES + 5))
    assert pair.call(KV + "Range", read)[0] == 0


def test_numbers_of_operations(pair: Pair) -> None:
    """spec/kv.md T1, T2 and example 28."""

    def reads(count: int) -> list[rpc.RequestOp]:
        one = rpc.RequestOp(request_range=rpc.RangeRequest(key=b"a"))
        return [one] * count

    compares = [rpc.Compare(key=b"a", target=rpc.Compare.VERSION)]
    nested = {
        n: rpc.RequestOp(request_txn=rpc.TxnRequest(success=reads(n))) for n in (0, 1, 127, 128)
    }
    for txn in (
        rpc.TxnRequest(),
        rpc.TxnRequest(success=reads(128)),
        rpc.TxnRequest(success=reads(129)),
        rpc.TxnRequest(failure=reads(129)),
        rpc.TxnRequest(compare=compares * 128),
        rpc.TxnRequest(compare=compares * 129),
        rpc.TxnRequest(success=[nested[127]]),
        rpc.TxnRequest(success=[nested[128]]),
        rpc.TxnRequest(success=[*reads(127), nested[0]]),
        rpc.TxnRequest(success=[*reads(127), nested[1]]),
    ):
        pair.call(KV + "Txn", txn)


def test_unknown_comparisons(pair: Pair) -> None:
    """spec/kv.md C5: values outside the enumerations."""
    pair.call(KV + "Put", rpc.PutRequest(key=b"a", value=b"1"))
    for target in (0, 7):
        for result in (0, 1, 2, 3, 9):
            compared = rpc.Compare(key=b"a", version=5)
            compared.target, compared.result = target, result
            pair.call(KV + "Txn", rpc.TxnRequest(compare=[compared]))


def test_long_history_comes_in_batches_of_whole_revisions(pair: Pair) -> None:
    """spec/watch.md V5 and example 20."""
    put = rpc.PutRequest(key=b"h", value=b"x").SerializeToString()
    pair.run(*[("call", KV + "Put", put)] * 2500)

    def all_events(responses: list[rpc.WatchResponse]) -> bool:
        return sum(len(r.events) for r in responses) >= 2500

    for responses in pair.watch(rpc.WatchCreateRequest(key=b"h", start_revision=1), all_events):
        told = [(len(r.events), r.header.revision) for r in responses if r.events]
        assert told == [(1000, 2501), (1000, 2501), (500, 2501)]


def test_fragments(pair: Pair) -> None:
    """spec/watch.md D6 and example 19: pieces below request limit + 512 KiB."""
    for _ in range(32):
        pair.call(KV + "Put", rpc.PutRequest(key=b"f", value=bytes(40_000)))

    def all_events(responses: list[rpc.WatchResponse]) -> bool:
        return sum(len(r.events) for r in responses) >= 32

    for fragment, wanted in ((True, [(15, True), (15, True), (2, False)]), (False, [(32, False)])):
        create = rpc.WatchCreateRequest(key=b"f", start_revision=1, fragment=fragment)
        for responses in pair.watch(create, all_events):
            assert [(len(r.events), r.fragment) for r in responses if r.events] == wanted


def test_locks(pair: Pair) -> None:
    """spec/concurrency.md L1-L6, examples 3-6 and 9."""
    skip_unless_served(pair.subject_process, LOCK + "Lock")
    for lease in (0xABC, -255):
        pair.call(LEASE + "LeaseGrant", rpc.LeaseGrantRequest(ID=lease, TTL=600))
    pair.call(LOCK + "Lock", lock.LockRequest(name=b"L2", lease=0x5555))
    _, _, locked = pair.call(LOCK + "Lock", lock.LockRequest(name=b"L3", lease=0xABC))
    assert locked.key == b"L3/abc"
    pair.call(LOCK + "Lock", lock.LockRequest(name=b"L3", lease=0xABC))
    assert pair.call(LOCK + "Lock", lock.LockRequest(name=b"", lease=0xABC))[2].key == b"/abc"
    assert pair.call(LOCK + "Lock", lock.LockRequest(name=b"neg", lease=-255))[2].key == b"neg/-ff"
    for key in (b"L3/abc", b"L3/abc", b""):
        pair.call(LOCK + "Unlock", lock.UnlockRequest(key=key))
    pair.call(KV + "Range", rpc.RangeRequest(key=b"\0", range_end=b"\0"))


def test_elections(pair: Pair) -> None:
    """spec/concurrency.md E1-E4, examples 10-19 as far as one caller can go."""
    skip_unless_served(pair.subject_process, ELECTION + "Campaign")
    pair.call(LEASE + "LeaseGrant", rpc.LeaseGrantRequest(ID=0xABC, TTL=600))
    ask = election.LeaderRequest(name=b"E")
    pair.call(ELECTION + "Leader", ask)
    _, _, won = pair.call(
        ELECTION + "Campaign", election.CampaignRequest(name=b"E", lease=0xABC, value=b"v1")
    )
    assert won.leader.key == b"E/abc"
    for value in (b"v2", b"v2"):
        again = election.CampaignRequest(name=b"E", lease=0xABC, value=value)
        pair.call(ELECTION + "Campaign", again)
    stale = election.LeaderKey(name=b"E", key=b"E/abc", rev=1, lease=0xABC)
    for leader in (won.leader, stale, None):
        proclaim = election.ProclaimRequest(leader=leader, value=b"v3")
        pair.call(ELECTION + "Proclaim", proclaim)
    pair.call(ELECTION + "Leader", ask)
    for leader in (stale, None, won.leader, won.leader):
        pair.call(ELECTION + "Resign", election.ResignRequest(leader=leader))
    pair.call(ELECTION + "Leader", ask)
    pair.call(KV + "Range", rpc.RangeRequest(key=b"\0", range_end=b"\0"))


def test_keyspace_emptied_and_compacted_away(
    release: EtcdRelease, start_etcd: StartMember, start_subject: StartMember
) -> None:
    """spec/kv.md Z5: the revision survives even when no record does."""
    members = (start_etcd(release), start_subject())
    answers = []
    for member in members:
        driver = Driver(member.endpoint)
        for number in range(5):
            put = rpc.PutRequest(key=b"%d" % number)
            driver.do_call(KV + "Put", put.SerializeToString())
        everything = rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0")
        driver.do_call(KV + "DeleteRange", everything.SerializeToString())
        request = rpc.CompactionRequest(revision=7, physical=True)
        driver.do_call(KV + "Compact", request.SerializeToString())
        driver.close()
        member.terminate()
        member.start()
        driver = Driver(member.endpoint)
        read = rpc.RangeRequest(key=b"\0", range_end=b"\0")
        code, _, body = driver.do_call(KV + "Range", read.SerializeToString())
        reply = rpc.RangeResponse.FromString(body)
        answers.append((code, reply.header.revision, reply.count))
        driver.close()
    assert answers == [(0, 7, 0)] * 2
