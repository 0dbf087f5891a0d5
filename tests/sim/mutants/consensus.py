"""Bugs in raft, its duties and its disk."""

from __future__ import annotations

import pytest

from kvserver.raft import (
    Message,
    MessageType,
    Ready,
    election,
    leader,
    plan,
    replication,
    state,
    step,
)
from kvserver.raft.log import RaftLog
from kvserver.raft.read_only import PendingRead, ReadOnly
from kvserver.raft.state import Raft
from kvserver.raft.types import Entry
from tests.sim.mutants.plant import Mutant
from tests.support.promise_mutants import (
    keeps_a_promise_of_another_term,
    promises_where_two_are_no_majority,
    reads_behind_its_promises,
)

plan_ready = plan.plan_ready


def votes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def vote_again(raft: Raft, message: Message) -> None:
        granted = raft.log.is_up_to_date(message.index, message.log_term)
        kind = MessageType(message.type + 1)
        if granted and message.type is MessageType.VOTE:
            raft.vote = message.from_
        term = message.term if granted else raft.term
        raft.send(Message(kind, to=message.from_, term=term, reject=not granted))

    monkeypatch.setitem(step._ANY_ROLE, MessageType.VOTE, vote_again)  # type: ignore[arg-type]


def commits_an_old_terms_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit_anything(raft: Raft) -> bool:
        return raft.log.commit_to(raft.tracker.committed_index())

    monkeypatch.setattr(replication, "maybe_commit", commit_anything)


def acknowledges_before_the_disk_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(ready: Ready) -> list[plan.Step]:
        return [
            plan.SendMessages(s.messages) if isinstance(s, plan.SendAfterPersist) else s
            for s in plan_ready(ready)
        ]

    monkeypatch.setattr(plan, "plan_ready", hasty)


def asks_for_votes_before_its_own_is_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours once: seed 756 of a storm of restarts on slow disks elected a member twice in a term."""
    late = state._AFTER_PERSIST - {MessageType.VOTE}
    monkeypatch.setattr(state, "_AFTER_PERSIST", late)


def skips_the_leaders_empty_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "_take_office", Raft.become_leader)


def reuses_a_read_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(self: ReadOnly, from_: int, context: bytes, commit: int) -> None:
        self.requested = 1
        self._pending.append(PendingRead(1, from_, context, commit))

    monkeypatch.setattr(ReadOnly, "add", add)


def reads_before_a_commit_of_its_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replication, "has_committed_in_term", lambda raft: True)


def truncates_a_committed_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every append replaces the tail, as if a shorter one meant a shorter log."""

    def merge(self: RaftLog, prev_index: int, entries: tuple[Entry, ...]) -> int:
        self.storage.truncate_from(prev_index + 1)
        self.last_index = prev_index
        self.persisted = min(self.persisted, prev_index)
        self.handed_over = min(self.handed_over, prev_index)
        self.append(entries)
        return prev_index + len(entries)

    monkeypatch.setattr(RaftLog, "merge", merge)


def takes_two_changes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "_may_change_configuration", lambda raft, entry: True)


MUTANTS: dict[str, Mutant] = {
    "votes twice in a term": Mutant(
        votes_twice,
        2,
        "InvariantViolation",
    ),
    "commits an old term's entry": Mutant(
        commits_an_old_terms_entry,
        3,
        "leader of term",
    ),
    "acknowledges before its disk has it": Mutant(
        acknowledges_before_the_disk_has_it,
        1,
        "on disk",
    ),
    "asks for votes before its own is on disk": Mutant(
        asks_for_votes_before_its_own_is_on_disk, 1, "asks for votes"
    ),
    "skips the leader's empty entry": Mutant(
        skips_the_leaders_empty_entry,
        1,
        "never ends",
    ),
    "reuses a read id": Mutant(reuses_a_read_id, schedule="read at a replaced leader"),
    "reads before a commit of its term": Mutant(
        reads_before_a_commit_of_its_term, schedule="read at a new leader"
    ),
    "reads behind its promises": Mutant(
        reads_behind_its_promises, schedule="read at a leader that has promised"
    ),
    "promises where two are no majority": Mutant(
        promises_where_two_are_no_majority, 15, "lacks committed"
    ),
    "keeps a promise of another term": Mutant(keeps_a_promise_of_another_term, 79, "is committed"),
    "truncates a committed entry": Mutant(
        truncates_a_committed_entry,
        1,
        "it has lost entries",
        faults=("reorder", "duplicate", "delay"),
        changes={"pause_seconds": 0.1},
    ),
    "takes two changes at once": Mutant(
        takes_two_changes_at_once, 3, "before it has applied", faults=("membership", "crash")
    ),
}
