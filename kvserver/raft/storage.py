"""The log in memory: one snapshot's position and the entries after it.

The write-ahead log is the authority on disk; this is what a member reads its log from while it
runs. It is filled from disk at start, by `RaftLog` afterwards, and shortened by the runtime after
a snapshot (`create_snapshot`, then `compact`). Invariants: entries are contiguous; the position
before the first entry is known by index and term; the stored snapshot is not behind it.

Owner: the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvserver.raft.invariants import check, violation
from kvserver.raft.types import ConfState, Entry, HardState, Snapshot


class MemoryStorage:
    """The state a RawNode starts from, and the entries it reads while it runs."""

    __slots__ = ("conf_state", "entries", "hard_state", "offset", "offset_term", "snapshot")

    def __init__(
        self,
        *,
        snapshot: Snapshot | None = None,
        hard_state: HardState = HardState(),
        entries: Iterable[Entry] = (),
        conf_state: ConfState | None = None,
    ) -> None:
        """State as read from disk; conf_state is that of the applied index, the snapshot's if None.

        The entries are those after the snapshot. hard_state and conf_state are the initial ones;
        they are not kept up to date here.
        """
        self.snapshot = snapshot or Snapshot(0, 0, ConfState())
        self.hard_state = hard_state
        self.conf_state = self.snapshot.conf_state if conf_state is None else conf_state
        self.offset = self.snapshot.index
        self.offset_term = self.snapshot.term
        self.entries: list[Entry] = list(entries)
        for position, entry in enumerate(self.entries, self.offset + 1):
            check(entry.index == position, "entry %d found where %d belongs", entry.index, position)

    @property
    def first_index(self) -> int:
        """Index of the first entry still here, or that the next one will get."""
        return self.offset + 1

    @property
    def last_index(self) -> int:
        return self.offset + len(self.entries)

    def term(self, index: int) -> int | None:
        """Term of an entry, or of the position just before the first; None if it is not here."""
        position = index - self.offset
        if position > 0:
            entries = self.entries
            return entries[position - 1].term if position <= len(entries) else None
        return self.offset_term if position == 0 else None

    def slice(self, first: int, last: int) -> list[Entry]:
        """Entries first..last, both included; all must be here."""
        offset = self.offset
        if first <= offset:
            raise violation("entry %d is compacted up to %d", first, offset)
        return self.entries[first - offset - 1 : last - offset]

    def append(self, entries: Sequence[Entry]) -> None:
        """Put entries behind the last one; they must follow it."""
        if entries:
            ours = self.entries
            last = self.offset + len(ours)
            if entries[0].index != last + 1:
                raise violation("entry %d appended after %d", entries[0].index, last)
            ours.extend(entries)

    def truncate_from(self, index: int) -> None:
        """Forget entry `index` and all after it."""
        check(index > self.offset, "cannot cut at %d, compacted up to %d", index, self.offset)
        del self.entries[index - self.offset - 1 :]

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes = b"") -> Snapshot:
        """Remember the state at `index` as the one offered to followers that lag.

        The index must be applied, and no received snapshot may wait to be installed. What is sent
        should be newer still: the transport puts the current state into a SNAPSHOT message, since
        a joiner ignores a snapshot whose configuration does not know it (spec/raft.md §6.4).
        """
        check(index >= self.snapshot.index, "snapshot %d behind %d", index, self.snapshot.index)
        term = self.term(index)
        check(term is not None, "snapshot at %d, last entry %d", index, self.last_index)
        self.snapshot = Snapshot(index, term or 0, conf_state, data)
        return self.snapshot

    def compact(self, index: int) -> None:
        """Forget the entries up to and with `index`; the stored snapshot must cover them."""
        if index <= self.offset:
            return
        check(index <= self.snapshot.index, "compact %d, snapshot %d", index, self.snapshot.index)
        term = self.term(index)
        check(term is not None, "compact %d, last entry %d", index, self.last_index)
        del self.entries[: index - self.offset]
        self.offset, self.offset_term = index, term or 0

    def restore(self, snapshot: Snapshot) -> None:
        """Start over behind a snapshot: no entries."""
        self.snapshot = snapshot
        self.entries.clear()
        self.offset, self.offset_term = snapshot.index, snapshot.term
