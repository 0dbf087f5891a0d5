"""What must hold in a cluster of raft members, whatever happens to it (thesis §3, figure 3.2).

The checker sees everything, as no member can: entries given to disks, commits, applies, leaders,
reads. It keeps what it has seen over crashes. A violation is an AssertionError that says what
happened; the seed that led there replays it.
"""

from __future__ import annotations

from kvserver.raft import Entry, HardState, Message, MessageType, RawNode, ReadState
from tests.support.raft_chain import link


class SafetyViolation(AssertionError):
    """A property that Raft promises does not hold."""


def require(holds: bool, text: str) -> None:
    if not holds:
        raise SafetyViolation(text)


class Checker:
    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        """Leader by term."""
        self.entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        """Every entry ever written, by (index, term), and the term of the one before it."""
        self.committed: dict[int, tuple[int, int]] = {}
        """Index to (term of the entry, lowest term in which a member knew it committed)."""
        self.chain: dict[int, int] = {0: 0}
        """The state machine's state by applied index."""
        self.applied_max = 0
        self.read_floors: dict[bytes, int] = {}
        self.reads_served = 0
        self.promises = 0

    # -- leaders and commits, after every event

    def observe(self, member: int, node: RawNode, seen_commit: int) -> int:
        """Look at a member; seen_commit is its commit index when looked at last."""
        if node.is_leader and self.leaders.get(node.term) != member:
            other = self.leaders.setdefault(node.term, member)
            require(other == member, f"two leaders in term {node.term}: {other} and {member}")
            self._check_completeness(member, node)
        require(node.committed >= seen_commit, f"commit of {member} went back")
        for index in range(seen_commit + 1, node.committed + 1):
            term = node.term_at(index)
            if term is not None:
                known = self.committed.setdefault(index, (term, node.term))
                require(
                    known[0] == term,
                    f"{member} committed {index}:{term}, but {index}:{known[0]} is committed",
                )
        return node.committed

    def _check_completeness(self, member: int, node: RawNode) -> None:
        """Leader completeness: what was committed in earlier terms is in a new leader's log."""
        for index, (term, known_in) in self.committed.items():
            if known_in < node.term and index >= node.storage.first_index:
                require(
                    node.term_at(index) == term,
                    f"leader {member} of term {node.term} lacks committed {index}:{term}",
                )

    # -- the log

    def entries_written(
        self, member: int, entries: list[Entry], prev_term: int | None, leader_last: int | None
    ) -> None:
        """Log matching: an entry's index and term determine it and all before it.

        leader_last: the last index a leader had written before, which it may not overwrite.
        """
        if leader_last is not None:
            require(entries[0].index > leader_last, f"leader {member} overwrote its own log")
        for entry in entries:
            key = (entry.index, entry.term)
            known = self.entries.setdefault(key, (entry, prev_term or 0))
            require(known[0] == entry, f"two entries at {key}: {known[0]} and {entry}")
            require(
                prev_term is None or known[1] == prev_term,
                f"entry {key} follows terms {known[1]} and {prev_term}",
            )
            prev_term = entry.term

    # -- promises

    def sent(self, member: int, message: Message, disk: HardState, disk_last: int) -> None:
        """Votes and acknowledgements leave only when what they rest on is on disk."""
        if message.type is MessageType.VOTE_RESPONSE and not message.reject:
            require(
                disk.term > message.term or (disk.term == message.term and disk.vote == message.to),
                f"{member} voted for {message.to} in term {message.term} with {disk} on disk",
            )
        if message.type is MessageType.VOTE:
            require(
                disk.term > message.term or (disk.term == message.term and disk.vote == member),
                f"{member} asks for votes in term {message.term} with {disk} on disk",
            )
        if message.type is MessageType.APPEND_RESPONSE and not message.reject:
            require(
                disk.term > message.term
                or (disk.term == message.term and disk_last >= message.index),
                f"{member} acknowledged {message.index} with {disk_last} and {disk} on disk",
            )

    # -- the state machine

    def entry_applied(self, member: int, entry: Entry, state: int, disk_last: int) -> int:
        """State machine safety: everybody applies the same entry at the same index."""
        require(entry.index <= disk_last, f"{member} applied {entry.index}, not on its disk")
        after = link(state, entry)
        known = self.chain.setdefault(entry.index, after)
        require(known == after, f"{member} applied another entry at {entry.index}")
        self.applied_max = max(self.applied_max, entry.index)
        return after

    def snapshot_installed(self, member: int, index: int, state: int) -> None:
        require(self.chain.get(index) == state, f"{member} installed a wrong state at {index}")

    # -- reads

    def read_requested(self, context: bytes) -> None:
        self.read_floors[context] = self.applied_max

    def read_answered(self, member: int, read: ReadState) -> None:
        """A read must see all that anybody had applied, so perhaps acknowledged, when it began."""
        floor = self.read_floors[read.context]
        require(
            read.index >= floor,
            f"{member} serves a read at {read.index}; {floor} was applied before it began",
        )
        self.reads_served += 1
