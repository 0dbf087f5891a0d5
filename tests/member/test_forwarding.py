"""Proposals sent to the leader, and reads that are asked for again (spec/kv.md E2, E3, E5)."""

from __future__ import annotations

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.member.proposal import ForwardedProposals, Proposal
from kvserver.member.reads import ReadQueue


class Told:
    def __init__(self) -> None:
        self.said: list[object] = []

    def reply(self, body: bytes) -> None:
        self.said.append(body)

    def fail(self, code: int, message: str) -> None:
        self.said.append(message)


def proposal(data: bytes, waiter: Told, started_at: float = 0.0) -> Proposal:
    return Proposal(Kind.PUT, None, data, 1, waiter, started_at)


def test_a_forwarded_proposal_is_found_by_its_entry() -> None:
    forwarded, told = ForwardedProposals(), Told()
    mine = proposal(b"entry with an id", told)
    forwarded.add(3, [mine])
    assert forwarded.pop(b"somebody else's") is None
    assert forwarded.pop(b"entry with an id") is mine
    assert forwarded.pop(b"entry with an id") is None
    assert mine.term == 3


def test_what_an_earlier_leader_was_given_has_an_unknown_outcome() -> None:
    """Once its successor has had time to be passed it (spec/kv.md E5)."""
    forwarded, old, new = ForwardedProposals(), Told(), Told()
    forwarded.add(3, [proposal(b"old", old)])
    forwarded.add(4, [proposal(b"new", new)])
    assert forwarded.fail_lost(99.0) == 0
    forwarded.succeeded(4, 0.2)
    assert forwarded.fail_lost(0.2) == 0
    assert forwarded.fail_lost(0.3) == 1
    assert old.said == [errors.TimeoutDueToLeaderFail.message]
    assert forwarded.expire(0.5, lambda started: errors.TimeoutDueToConnectionLost()) == 1
    assert new.said == [errors.TimeoutDueToConnectionLost.message]
    assert len(forwarded) == 0


def test_a_read_that_got_no_answer_is_asked_again_under_another_context() -> None:
    queue, heard = ReadQueue(), []
    queue.add(heard.append, 0.0)
    queue.open_round(b"one", 0.0)
    assert queue.is_asking
    assert queue.unanswered(0.0) == []
    assert queue.unanswered(0.6) == [b"one"]
    queue.ask_again(b"one", b"two", 0.6)
    queue.confirm(b"one", 1)
    queue.run(9)
    assert heard == [], "the first context is forgotten"
    queue.confirm(b"two", 9)
    assert not queue.is_asking
    assert queue.unanswered(99.0) == []
    queue.run(8)
    assert heard == [], "not applied yet"
    queue.run(9)
    assert heard == [None]


def test_a_new_leader_fails_the_reads_that_the_old_one_was_asked() -> None:
    queue, asked, confirmed, waiting = ReadQueue(), [], [], []
    queue.add(confirmed.append, 0.0)
    queue.open_round(b"one", 0.0)
    queue.confirm(b"one", 5)
    queue.add(asked.append, 0.0)
    queue.open_round(b"two", 0.0)
    queue.add(waiting.append, 0.0)
    queue.fail_unconfirmed(errors.LeaderChanged())
    assert [type(error) for error in asked] == [errors.LeaderChanged]
    assert waiting == [] and confirmed == []
    queue.run(5)
    assert confirmed == [None]
