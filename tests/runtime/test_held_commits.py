"""News of a commit goes with the next entries, or after a moment (runtime/held_commits.py)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvserver.limits import COMMIT_EAGER_SECONDS, COMMIT_HELD_SECONDS
from kvserver.raft import (
    ConfChange,
    ConfChangeType,
    Config,
    ConfState,
    MemoryStorage,
    Message,
    MessageType,
    RawNode,
)
from kvserver.runtime.held_commits import HeldCommits

OURS, SECOND, THIRD = 1, 2, 3


class Timer:
    is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Callable[[], None], Timer]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer()
        self.due.append((self.now + seconds, callback, timer))
        return timer

    def move(self, seconds: float) -> None:
        self.now += seconds
        due, self.due = self.due, []
        for at, callback, timer in due:
            if at > self.now + 1e-9:
                self.due.append((at, callback, timer))
            elif not timer.is_cancelled:
                callback()


class Rig:
    """The leader of three members, both others of which know all that is committed."""

    def __init__(self, voters: tuple[int, ...] = (OURS, SECOND, THIRD)) -> None:
        self.loop = Loop()
        self.node = RawNode(
            Config(id=OURS, random=lambda low, high: low, pre_vote=False, tells_commits=False),
            MemoryStorage(conf_state=ConfState(voters)),
        )
        self.heard: list[tuple[int, int, int]] = []
        """(member, entries, commit index) of each append."""
        self.promised: list[int] = []
        self.commits = HeldCommits(self.loop, self.node, self.turn)  # type: ignore[arg-type]
        self.node.campaign()
        self.turn()
        if len(voters) > 1:
            for voter in voters[1:]:
                self.node.step(Message(MessageType.VOTE_RESPONSE, OURS, voter, self.node.term))
            self.turn()
            self.acknowledge(SECOND, THIRD)
            self.loop.move(COMMIT_HELD_SECONDS)
            self.acknowledge(SECOND, THIRD)
        self.heard.clear()

    def turn(self) -> None:
        node = self.node
        while node.has_ready():
            ready = node.ready()
            for message in ready.messages_now:
                if message.type is MessageType.APPEND:
                    self.heard.append((message.to, len(message.entries), message.commit))
            if ready.must_sync:
                node.persisted(ready.number)
                self.promised += [message.to for message in self.commits.promises()]
                self.commits.look()
            if ready.committed_entries:
                last = ready.committed_entries[-1]
                if last.type is not last.type.NORMAL:
                    node.apply_conf_change(ConfChange(1, ConfChangeType.REMOVE_NODE, 0))
                node.applied(last.index)

    def put(self, *acknowledged_by: int) -> int:
        """The index of a write that these have; both others were sent it."""
        self.node.propose([b"x"])
        self.turn()
        sent = self.heard[-2:]
        assert [(to, entries) for to, entries, _ in sent] == [(SECOND, 1), (THIRD, 1)]
        self.heard = self.heard[:-2]
        self.acknowledge(*acknowledged_by)
        return self.node.last_index

    def acknowledge(self, *members: int) -> None:
        for member in members:
            kind, index = MessageType.APPEND_RESPONSE, self.node.last_index
            self.node.step(Message(kind, OURS, member, self.node.term, index=index))
            self.commits.look()
            self.turn()

    def wait(self, seconds: float = COMMIT_HELD_SECONDS) -> list[tuple[int, int, int]]:
        """What is heard meanwhile."""
        self.heard.clear()
        self.loop.move(seconds)
        return self.heard


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_next_entries_take_it_along(rig: Rig) -> None:
    rig.put(SECOND, THIRD)
    rig.loop.move(COMMIT_HELD_SECONDS / 2)
    rig.put()
    assert rig.heard == []
    assert rig.wait() == []
    assert rig.node.committed == rig.node.last_index - 1, "the second one is not committed"


def test_it_goes_alone_when_no_entries_come(rig: Rig) -> None:
    rig.put(SECOND)
    index = rig.put(SECOND)
    assert rig.heard == []
    assert rig.wait() == [(SECOND, 0, index), (THIRD, 0, index)]
    assert rig.wait(1) == []
    index = rig.put(THIRD)
    assert rig.wait() == [(SECOND, 0, index), (THIRD, 0, index)]


def test_each_waits_its_own_time(rig: Rig) -> None:
    """With one write after the other something is held most of the time, and never for long."""
    rig.put(SECOND)
    rig.loop.move(COMMIT_HELD_SECONDS * 0.75)
    index = rig.put(SECOND)
    assert rig.wait(COMMIT_HELD_SECONDS * 0.25) == [], "it has only just come"
    assert rig.wait(COMMIT_HELD_SECONDS * 0.75) == [(SECOND, 0, index), (THIRD, 0, index)]
    assert not rig.loop.due


def test_a_member_with_waiting_clients_hears_it_at_once(rig: Rig) -> None:
    """Also what was held when it asked."""
    first = rig.put(THIRD)
    rig.commits.expect(SECOND)
    rig.turn()
    assert rig.heard == [(SECOND, 0, first)]
    second = rig.put(THIRD)
    assert rig.heard == [(SECOND, 0, first), (SECOND, 0, second)]
    assert rig.wait() == [(THIRD, 0, second)]
    rig.loop.move(COMMIT_EAGER_SECONDS)
    rig.heard.clear()
    rig.put(THIRD)
    assert rig.heard == []


def test_a_member_that_takes_promises_finds_it_out(rig: Rig) -> None:
    """From the leader's disk and its own (raft/commits.py); it is told only if it was not
    promised, or when nothing else has told it for long."""
    rig.commits.expect(SECOND, takes_promises=True)
    index = rig.put(THIRD)
    assert rig.promised == [SECOND]
    assert rig.heard == []
    assert rig.wait() == [(SECOND, 0, index), (THIRD, 0, index)], "the promise may be lost"
    rig.commits.expect(SECOND)  # a read of one of its clients
    rig.put(THIRD)
    assert rig.promised == [SECOND, SECOND], "it still takes them"
    rig.loop.move(COMMIT_EAGER_SECONDS)
    rig.put(THIRD)
    assert rig.promised == [SECOND, SECOND], "it has no clients that wait"


def test_where_two_are_no_majority_it_is_told() -> None:
    rig = Rig((OURS, SECOND, THIRD, 4))
    rig.commits.expect(SECOND, takes_promises=True)
    rig.node.propose([b"x"])
    rig.turn()
    rig.heard.clear()
    rig.acknowledge(SECOND, THIRD)
    assert rig.promised == []
    assert rig.heard == [(SECOND, 0, rig.node.committed)]


def test_a_member_that_may_be_removed_hears_it_at_once(rig: Rig) -> None:
    rig.node.propose_conf_change(ConfChange(1, ConfChangeType.REMOVE_NODE, THIRD))
    rig.turn()
    rig.heard.clear()
    rig.acknowledge(SECOND)
    index = rig.node.last_index
    assert rig.heard == [(SECOND, 0, index), (THIRD, 0, index)]


def test_a_member_that_does_not_listen_holds_nobody_up(rig: Rig) -> None:
    """It is told with what it is asked for its log."""
    index = rig.put(SECOND)
    rig.node.report_unreachable(THIRD)
    assert rig.wait() == [(SECOND, 0, index)]
    assert not rig.loop.due
    rig.node.propose([b"y"])
    rig.turn()
    assert rig.heard[-2:] == [(SECOND, 1, index), (THIRD, 2, index)]


def test_nothing_is_said_for_a_term_that_is_over(rig: Rig) -> None:
    rig.put(SECOND)
    rig.node.step(Message(MessageType.HEARTBEAT, OURS, SECOND, rig.node.term + 1))
    assert rig.wait() == []
    assert not rig.loop.due


def test_a_member_that_stops_says_no_more(rig: Rig) -> None:
    rig.put(SECOND)
    rig.commits.stop()
    assert rig.wait(1) == []


def test_a_member_alone_holds_nothing() -> None:
    rig = Rig((OURS,))
    rig.node.propose([b"x"])
    rig.turn()
    assert rig.node.committed == rig.node.last_index
    assert not rig.loop.due
