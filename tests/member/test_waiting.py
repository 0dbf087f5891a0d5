"""Proposals, reads and headers of a member."""

from hypothesis import given
from hypothesis import strategies as st

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.member.header import HeaderBytes
from kvserver.member.proposal import CallbackWaiter, Proposal, WaitingProposals
from kvserver.member.reads import ReadQueue
from kvserver.proto import rpc_pb2


class Recorder:
    """A waiter that keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def reply(self, body: bytes) -> None:
        self.heard.append(body)

    def fail(self, code: int, message: str) -> None:
        self.heard.append((code, message))


def proposal(waiter: Recorder, started_at: float = 0.0) -> Proposal:
    return Proposal(Kind.PUT, None, b"", 1, waiter, started_at)


def test_a_proposal_is_found_by_its_entry() -> None:
    waiting, first, second = WaitingProposals(), Recorder(), Recorder()
    waiting.add(5, 2, [proposal(first), proposal(second)])
    found = waiting.pop(6, 2)
    assert found is not None and found.waiter is second
    assert waiting.pop(6, 2) is None
    assert len(waiting) == 1


def test_an_overwritten_proposal_hears_that_its_outcome_is_unknown() -> None:
    """Another leader's entry took its index (spec/kv.md E5)."""
    waiting, waiter = WaitingProposals(), Recorder()
    waiting.add(5, 2, [proposal(waiter)])
    assert waiting.pop(5, 3) is None
    error = errors.TimeoutDueToLeaderFail
    assert waiter.heard == [(error.code, error.message)]


def test_late_proposals_expire_in_order() -> None:
    waiting, old, young = WaitingProposals(), Recorder(), Recorder()
    waiting.add(1, 1, [proposal(old, 1.0), proposal(young, 9.0)])
    assert waiting.expire(before=5.0) == 1
    assert old.heard == [(errors.Timeout.code, errors.Timeout.message)]
    assert young.heard == [] and len(waiting) == 1
    waiting.fail_all(errors.Stopped())
    assert young.heard == [(errors.Stopped.code, errors.Stopped.message)]


def test_a_callback_waiter_hears_success_as_none() -> None:
    heard: list[errors.RequestError | None] = []
    CallbackWaiter(heard.append).reply(b"")
    CallbackWaiter(heard.append).fail(errors.Code.UNAVAILABLE, "etcdserver: no leader")
    assert heard[0] is None
    assert heard[1] is not None and heard[1].code is errors.Code.UNAVAILABLE


def test_a_read_runs_once_its_index_is_applied() -> None:
    """spec/kv.md E2."""
    queue: ReadQueue = ReadQueue()
    heard: list[object] = []
    queue.add(heard.append, 0.0)
    queue.add(heard.append, 0.0)
    queue.open_round(b"one")
    queue.add(heard.append, 0.0)
    queue.run(100)
    assert heard == [], "nobody has confirmed it"
    queue.confirm(b"one", 7)
    queue.run(6)
    assert heard == []
    queue.run(7)
    assert heard == [None, None]
    assert queue.has_waiting, "a read that came later needs a round of its own"


def test_a_round_given_up_is_not_run_by_a_late_answer() -> None:
    queue = ReadQueue()
    heard: list[errors.RequestError | None] = []
    queue.add(heard.append, 0.0)
    queue.open_round(b"one")
    queue.expire(before=1.0)
    queue.confirm(b"one", 1)
    queue.run(10)
    assert [type(error) for error in heard] == [errors.Timeout]


@given(
    st.integers(1, 2**64 - 1),
    st.integers(1, 2**64 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(1, 2**40),
)
def test_headers_are_what_protobuf_would_write(
    cluster: int, member: int, revision: int, term: int
) -> None:
    header = HeaderBytes(cluster, member)
    header.set_term(term)
    response = rpc_pb2.PutResponse()
    response.header.cluster_id = cluster
    response.header.member_id = member
    response.header.revision = revision
    response.header.raft_term = term
    assert header(revision) == response.SerializeToString()


def test_read_rounds_that_come_to_nothing_are_counted() -> None:
    """etcd_server_read_indexes_failed_total."""
    queue, heard = ReadQueue(), []
    queue.add(heard.append, 1.0)
    queue.open_round(b"asked", 1.0)
    queue.add(heard.append, 2.0)
    assert queue.expire(1.0) == 0
    assert queue.expire(3.0) == 2
    queue.add(heard.append, 4.0)
    queue.open_round(b"again", 4.0)
    assert queue.fail_unconfirmed(errors.LeaderChanged()) == 1
    assert queue.fail_unconfirmed(errors.LeaderChanged()) == 0
    assert len(heard) == 3
