"""News of a commit goes with the next entries, or after a moment (runtime/held_commits.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from kvserver.limits import COMMIT_EAGER_SECONDS, COMMIT_HELD_SECONDS
from kvserver.raft import Entry, EntryType, Message, MessageType
from kvserver.runtime.held_commits import HeldCommits

TERM = 5


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


class Node:
    term = TERM
    is_leader = True
    has_pending_conf_change = False


class Rig:
    def __init__(self) -> None:
        self.loop, self.node = Loop(), Node()
        self.sent: list[Message] = []
        self.commits = HeldCommits(self.loop, self.node, self.sent.extend)  # type: ignore[arg-type]

    def pass_on(self, *messages: Message) -> list[Message]:
        return list(self.commits.pass_on(messages))


def commit(to: int, index: int = 9, term: int = TERM) -> Message:
    return Message(MessageType.APPEND, to, 1, term, index=index, commit=index)


def entries(to: int) -> Message:
    return commit(to)._replace(entries=(Entry(10, TERM, EntryType.NORMAL, b"x"),))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_next_entries_take_it_along(rig: Rig) -> None:
    assert rig.pass_on(commit(2), commit(3)) == []
    assert rig.pass_on(entries(2)) == [entries(2)]
    rig.loop.move(COMMIT_HELD_SECONDS)
    assert rig.sent == [commit(3)], "it went to 2 with the entries"


def test_the_newest_goes_when_no_entries_come(rig: Rig) -> None:
    assert rig.pass_on(commit(2, 8)) == []
    rig.loop.move(COMMIT_HELD_SECONDS / 2)
    assert rig.pass_on(commit(2, 9)) == []
    rig.loop.move(COMMIT_HELD_SECONDS / 2)
    assert rig.sent == [commit(2, 9)]
    rig.loop.move(1)
    assert rig.sent == [commit(2, 9)]
    assert rig.pass_on(commit(2, 10)) == []
    rig.loop.move(COMMIT_HELD_SECONDS)
    assert rig.sent == [commit(2, 9), commit(2, 10)]


def test_each_waits_its_own_time(rig: Rig) -> None:
    """With one write after the other something is held most of the time, and never for long."""
    assert rig.pass_on(commit(2, 8)) == []
    rig.loop.move(COMMIT_HELD_SECONDS * 0.75)
    rig.pass_on(entries(2))
    assert rig.pass_on(commit(2, 9)) == []
    rig.loop.move(COMMIT_HELD_SECONDS * 0.25)
    assert rig.sent == [], "it has only just come"
    rig.loop.move(COMMIT_HELD_SECONDS * 0.75)
    assert rig.sent == [commit(2, 9)]


def test_whatever_else_there_is_goes_at_once(rig: Rig) -> None:
    others: Sequence[Message] = [
        entries(2),
        Message(MessageType.HEARTBEAT, 2, 1, TERM, commit=9),
        Message(MessageType.TIMEOUT_NOW, 2, 1, TERM),
    ]
    assert rig.pass_on(*others, commit(3)) == others


def test_a_member_with_waiting_clients_hears_it_at_once(rig: Rig) -> None:
    """Also what was held when it asked."""
    assert rig.pass_on(commit(2, 8), commit(3, 8)) == []
    rig.commits.expect(2)
    assert rig.sent == [commit(2, 8)]
    assert rig.pass_on(commit(2, 9), commit(3, 9)) == [commit(2, 9)]
    rig.loop.move(COMMIT_EAGER_SECONDS + 0.001)
    assert rig.pass_on(commit(2, 10)) == []


def test_a_member_that_may_be_removed_hears_it_at_once(rig: Rig) -> None:
    rig.node.has_pending_conf_change = True
    assert rig.pass_on(commit(2)) == [commit(2)]


@pytest.mark.parametrize("is_leader", [True, False])
def test_nothing_is_said_for_a_term_that_is_over(rig: Rig, is_leader: bool) -> None:
    rig.pass_on(commit(2))
    rig.node.is_leader = is_leader
    rig.node.term = TERM + 1
    rig.loop.move(COMMIT_HELD_SECONDS)
    assert rig.sent == []


def test_a_member_that_stops_says_no_more(rig: Rig) -> None:
    rig.pass_on(commit(2))
    rig.commits.stop()
    rig.loop.move(1)
    assert rig.sent == []
