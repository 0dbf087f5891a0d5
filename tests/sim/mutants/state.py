"""Bugs in what a member does with committed entries: store, watches, leases, flushes."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver.member.proposal import ForwardedProposals
from kvserver.mvcc.backend import memory
from kvserver.mvcc.backend.api import Job
from kvserver.mvcc.key_index import KeyHistory
from kvserver.mvcc.revision import RevisionKey
from kvserver.runtime.duties import Duties
from kvserver.runtime.install import Installer
from kvserver.runtime.member_loop import MemberLoop
from kvserver.runtime.propose_duty import ProposeDuty
from kvserver.watch import messages
from kvserver.watch.stream import WatchStream
from tests.sim.mutants.plant import Mutant
from tests.support.sim.machine import Settings


def expires_leases_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    collect = Duties._collect_expired

    class Wall:
        def __init__(self, clock: Any) -> None:
            self._clock = clock
            self._offset = clock.wall() - clock.monotonic()

        def monotonic(self) -> float:
            return float(self._clock.wall() - self._offset)

    def by_the_wall(self: Duties) -> None:
        if not isinstance(self._clock, Wall):
            self._clock = Wall(self._clock)  # type: ignore[assignment]
        collect(self)

    monkeypatch.setattr(Duties, "_collect_expired", by_the_wall)


def forwards_expired_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that was replaced without knowing has its successor revoke what it thinks due."""
    monkeypatch.setattr(ProposeDuty, "propose_as_leader", ProposeDuty.propose)


def renews_unasked_after_standing_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemberLoop, "leads_surely", lambda self, now: True)


def proposes_again_after_a_change_of_leaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was forwarded may be in the log already: it is applied twice."""
    note_leader = MemberLoop._note_leader

    def note_and_repeat(self: MemberLoop, new: int) -> None:
        if new and new != self.leader:
            proposals = self._proposals
            proposals.new += proposals.forwarded.by_data.values()
            proposals.forwarded = ForwardedProposals()
            self.wake()
        note_leader(self, new)

    monkeypatch.setattr(MemberLoop, "_note_leader", note_and_repeat)


def loses_the_tombstone_at_the_compact_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    superseded = KeyHistory.superseded

    def without(self: KeyHistory, revision: int, bound: bytes) -> list[RevisionKey]:
        return superseded(self, revision + 1, bound)

    monkeypatch.setattr(KeyHistory, "superseded", without)


def lets_progress_overtake_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer for the whole stream although some of its watchers lag."""

    def progress(self: WatchStream) -> None:
        header = self._hub.header(self._hub.revision)
        self.sink.send(messages.progress(header, messages.BROADCAST_ID))

    monkeypatch.setattr(WatchStream, "_progress", progress)


def commits_the_index_apart_from_its_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest change comes with the next flush, the index that vouches for it with this one."""
    begin_flush = memory.MemoryBackend.begin_flush

    def begin(self: memory.MemoryBackend) -> Job | None:
        late = self._changes[-1:] if self._job is None else []
        self._changes = self._changes[: len(self._changes) - len(late)]
        job = begin_flush(self)
        self._changes = late + self._changes
        return job

    monkeypatch.setattr(memory.MemoryBackend, "begin_flush", begin)


def forgets_leases_when_a_snapshot_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lessor keeps what it had: members disagree about which leases there are."""
    rebuild = Installer._rebuild

    def without_leases(self: Installer, snapshot: Any, done: Any) -> None:
        self._lessor = _Deaf()  # type: ignore[assignment]
        rebuild(self, snapshot, done)

    monkeypatch.setattr(Installer, "_rebuild", without_leases)


class _Deaf:
    def restore(self, items: Any) -> None:
        """Hears nothing."""


MUTANTS: dict[str, Mutant] = {
    "expires leases by the wall clock": Mutant(
        expires_leases_by_the_wall_clock, 2, "promised until", faults=("clock jump",)
    ),
    "forwards expired leases": Mutant(
        forwards_expired_leases, 10, "promised until", faults=("pause",)
    ),
    "renews unasked after standing still": Mutant(
        renews_unasked_after_standing_still, schedule="renewal at a leader that stood still"
    ),
    "proposes again after a change of leaders": Mutant(
        proposes_again_after_a_change_of_leaders,
        1,
        "applied twice",
        faults=("crash", "pause", "transfer"),
    ),
    "loses the tombstone at the compact revision": Mutant(
        loses_the_tombstone_at_the_compact_revision,
        schedule="watch from a tombstone at the compact revision",
    ),
    "lets progress overtake events": Mutant(
        lets_progress_overtake_events, schedule="progress asked right after a watch"
    ),
    "commits the index apart from its effects": Mutant(
        commits_the_index_apart_from_its_effects, 1, "after entry", faults=("crash", "crash all")
    ),
    "forgets leases when a snapshot is installed": Mutant(
        forgets_leases_when_a_snapshot_is_installed,
        1,
        "after entry",
        faults=("pause", "partition", "membership"),
        changes={"settings": Settings(snapshot_entries=10, catch_up_entries=1)},
    ),
}
