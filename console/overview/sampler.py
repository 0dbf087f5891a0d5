"""One fan-out a cluster at a time, shared by every page and socket that looks at it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from console.gateway import NoLeader, Reader
from console.models import Cluster
from console.overview.health import Health, Member, assess

_looks = ThreadPoolExecutor(8, thread_name_prefix="look")
"""Looks that a page waits for with a limit."""

SHARED_SECONDS = 1.0
"""An answer this young serves the next who asks: fifty open tabs cost what one does."""


LEADER_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Health and, for each member by id, how long ago it last answered this console (None: not
    since the console started). `taken_at` is a moment of the clock on the wall."""

    health: Health
    seen_seconds: dict[int, float | None]
    last_status: dict[int, Member]
    list_failure: str | None = None
    taken_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    taken_at: float = float("-inf")
    snapshot: Snapshot | None = None
    seen_at: dict[int, float] = field(default_factory=dict)
    last: dict[int, Member] = field(default_factory=dict)
    stamp: object = None


class Sampler:
    """Thread-safe. Remembers, per member, the last status it gave: a dead member's row shows
    how long ago, and what it said then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[tuple[int, str], _Slot] = {}

    def snapshot(self, cluster: Cluster) -> Snapshot:
        """The members' state now, at most a second old."""
        with self._lock:
            # What one person may see is not for another who signed in as somebody else.
            whose = (cluster.pk, cluster.user_name)
            slot = self._slots.get(whose)
            if slot is None or slot.stamp != cluster.changed_at:
                slot = self._slots[whose] = _Slot(stamp=cluster.changed_at)
        with slot.lock:
            now = time.monotonic()
            if slot.snapshot is None or now - slot.taken_at > SHARED_SECONDS:
                slot.snapshot = self._take(cluster, slot)
                slot.taken_at = time.monotonic()
            return slot.snapshot

    def within(self, cluster: Cluster, seconds: float) -> Snapshot | None:
        """The members' state now, or None when it takes longer than that: the look goes on, and
        who asks next has it sooner."""
        try:
            return _looks.submit(self.snapshot, cluster).result(seconds)
        except TimeoutError:
            return None

    def check_leader(self, cluster: Cluster) -> None:
        """NoLeader where members answer and know none: before what would wait for a quorum. Where
        nobody answers, or not at once, the call itself finds out."""
        snapshot = self.within(cluster, LEADER_SECONDS)
        health = snapshot.health if snapshot else None
        if health and health.leader is None and any(row.member.status for row in health.rows):
            raise NoLeader("UNAVAILABLE", "etcdserver: no leader", "")

    def forget(self, cluster: Cluster) -> None:
        """The next look asks the members anew: something was just changed."""
        with self._lock:
            slot = self._slots.get((cluster.pk, cluster.user_name))
        if slot:
            with slot.lock:
                slot.snapshot = None

    def _take(self, cluster: Cluster, slot: _Slot) -> Snapshot:
        members, list_failure = Reader(cluster).members()
        if list_failure and slot.last and not any(member.status for member in members):
            # Nobody answers: the members known a moment ago say more than bare endpoints.
            members = [_silent(member, members) for member in slot.last.values()]
        now = time.monotonic()
        for member in members:
            if member.status:
                slot.seen_at[member.id] = now
                slot.last[member.id] = member
        if not list_failure:
            present = {member.id for member in members}
            slot.last = {i: member for i, member in slot.last.items() if i in present}
        seen = {
            member.id: now - slot.seen_at[member.id] if member.id in slot.seen_at else None
            for member in members
        }
        return Snapshot(assess(members, list_failure), seen, dict(slot.last), list_failure)


def _silent(member: Member, answers: list[Member]) -> Member:
    failure = next((answer.failure for answer in answers if answer.failure), None)
    return Member(member.id, member.name, member.is_learner, member.endpoints, None, failure)


sampler = Sampler()
