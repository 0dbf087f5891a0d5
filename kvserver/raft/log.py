"""The log with its cursors: what is committed, handed over, on disk, and applied.

One list holds every entry (`MemoryStorage`); the cursors say how far each duty has got:

    offset < ... applied <= applying <= committed <= last      (state machine)
                 persisted <= handed_over <= last              (local disk)

Entries after `persisted` are the unstable part: only memory is sure to have them. Several
handovers to the disk may be outstanding; they finish in order. A truncation shortens the
outstanding ones, so that a write that finishes late never vouches for entries that replaced those
it wrote, even if a later leader brings the old entry back. Committed entries are handed out for
apply only up to `persisted` (spec/raft.md §2).

Owner: the event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate

from kvserver.raft.invariants import check, violation
from kvserver.raft.storage import MemoryStorage
from kvserver.raft.types import ENTRY_OVERHEAD_BYTES, Entry, EntryType, Snapshot, entries_bytes


class Handover:
    """What one Ready gave to the disk: entries up to last_index, of the log as it is now."""

    __slots__ = ("last_index", "number", "term", "vote")

    def __init__(self, number: int, last_index: int, term: int, vote: int) -> None:
        self.number = number
        self.last_index = last_index
        self.term = term
        self.vote = vote


class RaftLog:
    """Appends, truncates and compares entries; never looks at terms of leaders or roles."""

    __slots__ = (
        "applied",
        "applying",
        "committed",
        "handed_over",
        "handovers",
        "last_index",
        "pending_snapshot",
        "persisted",
        "snapshot_handed_over",
        "storage",
    )

    def __init__(self, storage: MemoryStorage, applied: int = 0) -> None:
        self.storage = storage
        last = storage.last_index
        self.last_index = last
        """Kept beside the list because everything asks for it."""
        self.persisted = last
        self.handed_over = last
        self.applied = self.applying = max(applied, storage.offset)
        # What was applied was committed, though a HardState that says so may never have been
        # written: the commit in it is not synced for its own sake.
        self.committed = max(storage.hard_state.commit, self.applied)
        check(
            self.committed <= last,
            "commit index %d is beyond the last entry %d: the log has lost entries",
            self.committed,
            last,
        )
        self.pending_snapshot: Snapshot | None = None
        """Received, and not yet installed as the state machine's state."""
        self.snapshot_handed_over = False
        self.handovers: deque[Handover] = deque()

    # -- reading

    @property
    def first_index(self) -> int:
        return self.storage.first_index

    @property
    def last_term(self) -> int:
        term = self.storage.term(self.last_index)
        assert term is not None
        return term

    def term(self, index: int) -> int | None:
        """None where the entry is compacted or not there yet; 0 for index 0."""
        return self.storage.term(index)

    def matches(self, index: int, term: int) -> bool:
        return self.storage.term(index) == term

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends in (index, term) may lead ours (thesis §3.6.1)."""
        return (term, index) >= (self.last_term, self.last_index)

    def entries_from(self, index: int, bytes_max: int, last: int | None = None) -> list[Entry]:
        """Entries from `index` on, at most bytes_max of them but at least one if there is one."""
        entries = self.storage.slice(index, self.last_index if last is None else last)
        if len(entries) < 2 or entries_bytes(entries) <= bytes_max:
            return entries
        sizes = accumulate([len(entry.data) + ENTRY_OVERHEAD_BYTES for entry in entries])
        fitting = sum(1 for size in sizes if size <= bytes_max)
        return entries[: max(fitting, 1)]

    def last_index_with_term_up_to(self, index: int, term: int) -> int:
        """Highest position <= index whose term is <= term, or whose term is unknown.

        Both sides use it to skip whole terms when a follower's log differs (spec/raft.md §6).
        """
        while index > 0:
            ours = self.storage.term(index)
            if ours is None or ours <= term:
                break
            index -= 1
        return index

    # -- appending

    def append(self, entries: Sequence[Entry]) -> None:
        """Put new entries behind the last one."""
        self.storage.append(entries)
        self.last_index += len(entries)

    def merge(self, prev_index: int, entries: Sequence[Entry]) -> int:
        """Take over a leader's entries after prev_index, which matches; return the last index.

        Entries we have stay; the first that differs, and all after it, are replaced. A shorter
        append never truncates (spec/raft.md §6.1).
        """
        last_new = prev_index + len(entries)
        if prev_index == self.last_index:  # Hot: a leader's next entries most often follow ours.
            self.storage.append(entries)
            self.last_index = last_new
            return last_new
        for position, entry in enumerate(entries):
            if self.storage.term(entry.index) != entry.term:
                if entry.index <= self.last_index:
                    self.truncate_from(entry.index)
                self.append(entries[position:])
                break
        return last_new

    def truncate_from(self, index: int) -> None:
        """Drop entry `index` and all after it; nothing committed is ever dropped."""
        check(
            index > self.committed,
            "entry %d conflicts with the log, which is committed up to %d",
            index,
            self.committed,
        )
        self.storage.truncate_from(index)
        kept = index - 1
        self.last_index = kept
        self.persisted = min(self.persisted, kept)
        self.handed_over = min(self.handed_over, kept)
        for handover in self.handovers:
            handover.last_index = min(handover.last_index, kept)

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot; nothing is applied until it is installed."""
        check(snapshot.index > self.committed, "snapshot %d is old", snapshot.index)
        self.storage.restore(snapshot)
        self.pending_snapshot = snapshot
        self.snapshot_handed_over = False
        self.last_index = self.committed = snapshot.index
        # Neither the snapshot nor the log behind it is on disk yet. What is applied stays below
        # it until the snapshot is installed, so `persisted` may step back to that.
        self.persisted = self.handed_over = min(self.persisted, self.applying)
        for handover in self.handovers:
            handover.last_index = min(handover.last_index, self.persisted)

    # -- committing and applying

    def commit_to(self, index: int) -> bool:
        """Raise the commit index; say whether it moved. It never goes down."""
        if index <= self.committed:
            return False
        last = self.last_index
        if index > last:
            raise violation(
                "asked to commit %d but the log ends at %d: it has lost entries", index, last
            )
        self.committed = index
        return True

    @property
    def appliable(self) -> int:
        """Last index that may be handed out for apply now."""
        if self.pending_snapshot is not None:
            return self.applying
        return min(self.committed, self.persisted)

    def take_committed(self, bytes_max: int) -> list[Entry]:
        """The next entries to apply, marked as handed out."""
        last = self.appliable
        if last <= self.applying:
            return []
        entries = self.entries_from(self.applying + 1, bytes_max, last)
        self.applying += len(entries)
        return entries

    def applied_to(self, index: int) -> None:
        """The state machine has taken in everything up to `index`, or installed a snapshot."""
        snapshot = self.pending_snapshot
        if snapshot is not None:
            # Installed: this one, or one that was replaced by a newer one on its way.
            self.applying = max(self.applying, index)
            if index >= snapshot.index:
                self.pending_snapshot = None
        check(
            self.applied <= index <= self.applying,
            "applied %d is outside of %d..%d, which were handed out",
            index,
            self.applied,
            self.applying,
        )
        self.applied = index

    def has_unapplied_conf_change(self) -> bool:
        """Whether a committed entry that is not applied yet changes the configuration."""
        if self.applied >= self.committed:
            return False
        if self.pending_snapshot is not None:
            return True
        entries = self.storage.slice(self.applied + 1, self.committed)
        return any(entry.type is not EntryType.NORMAL for entry in entries)

    # -- local disk

    @property
    def newest_handover_number(self) -> int:
        """The Ready that whatever we vouch for now rests on; 0 if all of them are on disk."""
        return self.handovers[-1].number if self.handovers else 0

    def take_snapshot(self) -> Snapshot | None:
        """The snapshot the disk has not been given yet, marked as handed over."""
        if self.pending_snapshot is None or self.snapshot_handed_over:
            return None
        self.snapshot_handed_over = True
        return self.pending_snapshot

    def take_unpersisted(self) -> list[Entry]:
        """Entries the disk has not been given yet, marked as handed over."""
        first = max(self.handed_over, self.storage.offset) + 1
        self.handed_over = self.last_index
        return self.storage.slice(first, self.last_index) if first <= self.last_index else []

    def record_handover(self, number: int, term: int, vote: int) -> None:
        """A Ready took everything up to last_index, and this term and vote, to the disk."""
        self.handovers.append(Handover(number, self.last_index, term, vote))

    def persisted_up_to(self, number: int) -> Handover | None:
        """The disk has finished the handovers up to that number; return the last of them."""
        finished = None
        while self.handovers and self.handovers[0].number <= number:
            finished = self.handovers.popleft()
            self.persisted = max(self.persisted, finished.last_index)
        return finished
