"""Reads waiting for proof that we still lead (thesis §6.4, spec/raft.md §7).

Every read gets the next number of this term; heartbeats carry the latest number as their context,
little-endian in 8 bytes, and an echo of n from a majority proves that we led when read n arrived,
so it confirms all reads up to n. An echo is of our term (others never reach here) and numbers are
never used twice in one, so it cannot belong to another read. The queue dies with the term.

Owner: the event loop, through `Raft`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kvserver.raft.confchange import Configuration
from kvserver.raft.quorum import joint_index

_CONTEXT_BYTES = 8


@dataclass(frozen=True, slots=True)
class PendingRead:
    """Somebody's read and the commit index it was given."""

    number: int
    from_: int
    context: bytes
    index: int


class ReadOnly:
    __slots__ = ("_echoed", "_pending", "postponed", "requested")

    def __init__(self) -> None:
        self.requested = 0
        """Reads recorded in this term: the number of the latest."""
        self.postponed: list[tuple[int, bytes]] = []
        """(from, context) of reads that wait for the first commit of the term."""
        self._pending: deque[PendingRead] = deque()
        self._echoed: dict[int, int] = {}

    def add(self, from_: int, context: bytes, commit: int) -> None:
        """Record a read; it may be answered with `commit` once confirmed."""
        self.requested += 1
        self._pending.append(PendingRead(self.requested, from_, context, commit))

    @property
    def heartbeat_context(self) -> bytes:
        """What the next heartbeat asks to echo; empty when no read waits."""
        if not self._pending:
            return b""
        return self.requested.to_bytes(_CONTEXT_BYTES, "little")

    def echoed(self, from_: int, context: bytes) -> None:
        """A member has sent a heartbeat's context back."""
        if len(context) == _CONTEXT_BYTES:
            number = int.from_bytes(context, "little")
            if self._echoed.get(from_, 0) < number <= self.requested:
                self._echoed[from_] = number

    def take_confirmed(self, configuration: Configuration, self_id: int) -> list[PendingRead]:
        """Reads that a majority of the voters has confirmed, oldest first."""
        self._echoed[self_id] = self.requested
        confirmed = joint_index(
            configuration.voters,
            configuration.voters_outgoing,
            lambda voter: self._echoed.get(voter, 0),
        )
        reads = []
        while self._pending and self._pending[0].number <= confirmed:
            reads.append(self._pending.popleft())
        return reads
