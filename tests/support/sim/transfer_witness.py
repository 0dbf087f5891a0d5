"""Databases on their way, as who sees both ends: each is reported to raft once, as taken only if it
was, in time, and none is taken from a member that was removed."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from kvserver.raft import Message
from tests.support.sim.world import Violation, World

if TYPE_CHECKING:
    from tests.support.sim.machine import Process

SECONDS_MAX = 13.0
"""Of one transfer while nothing is wrong any more: both stall limits, the answer, a slow disk."""
Way = tuple[str, int]
"""A life of a sender, and whom it sends to."""


class TransferWitness:
    """Owner: the run."""

    def __init__(self, world: World) -> None:
        self.ended = Counter[bool]()
        """How many were reported, by how they ended."""
        self._world = world
        self._open: dict[Way, deque[float]] = {}
        """When those began that nothing is known of."""
        self._taken = Counter[Way]()
        """Handed to raft at the receiver, less those reported."""

    def watch(self, process: Process) -> None:
        mailbox = process.core.member.mailbox
        report = mailbox.report_snapshot

        def watched(member: int, is_success: bool) -> None:
            self._reported(process, member, is_success)
            report(member, is_success)

        mailbox.report_snapshot = watched  # type: ignore[method-assign]

    def died(self, process: Process) -> None:
        for way in [way for way in self._open if way[0] == process.life]:
            del self._open[way]

    def sent(self, process: Process, message: Message) -> None:
        way = process.life, message.to
        began = self._open.setdefault(way, deque())
        if not began:
            self._taken[way] = 0
        began.append(self._world.now)

    def received(self, process: Process, message: Message) -> None:
        state = process.core.state
        if state.membership.is_removed(message.from_):
            self._world.fail(f"{process.name} takes the database of a removed member")
        snapshot = message.snapshot
        assert snapshot is not None
        marks = process.machine.disk.received_marks(snapshot.index)
        is_news = snapshot.index > process.core.member.node.committed  # an older one may be purged
        if is_news and marks != (snapshot.index, snapshot.term):
            self._world.fail(
                f"{process.name} is told of snapshot {snapshot.index}:{snapshot.term}, "
                f"and its disk has {marks}"
            )
        sender = process.fabric.processes.get(process.fabric.names.get(message.from_, ""))
        if sender is not None:
            self._taken[sender.life, process.member_id] += 1

    def _reported(self, process: Process, member: int, is_success: bool) -> None:
        way = process.life, member
        began = self._open.get(way)
        if not began:
            raise Violation(f"{process.name} reports a database for {member:x} that is not sent")
        began.popleft()
        self.ended[is_success] += 1
        name = process.fabric.names.get(member, "")
        self._world.trace(process.name, f"database for {name} ended: {is_success}")
        if is_success:
            if not self._taken[way]:
                raise Violation(f"{process.name} reports a database that {name} has not taken")
            self._taken[way] -= 1

    def faults(self, well_since: float) -> list[str]:
        """Of transfers that raft never hears of."""
        before = self._world.now - SECONDS_MAX
        return [
            f"{life} has been sending a database to {to:x} since {began[0]:.1f}"
            for (life, to), began in self._open.items()
            if began and max(began[0], well_since) < before
        ]
