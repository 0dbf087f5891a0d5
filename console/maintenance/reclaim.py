"""What a compaction would free and what could not be undone after it. No Django in here.

Of each key a compaction at C keeps the records after C and the newest one up to C, unless that is
a tombstone (spec/kv.md Z3). So every change up to C frees the record it replaced, and a delete
frees its own tombstone as well: a sum over the events of the retained window, no state a key.
(A tombstone at exactly C is kept by some releases until the next compaction: one record more.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from console.gateway.records import Event
from console.maintenance.prefixes import Groups

RECORD_OVERHEAD_BYTES = 60
"""Beside key and value a record holds its revision (17 bytes), four numbers of the KeyValue (up
to 25) and the header of a page element (16)."""

LOST_KEYS_MAX = 50_000
"""Deleted keys remembered; of more the oldest are only counted."""


def record_bytes(key: bytes, value_bytes: int | None) -> int:
    """About what one record takes in the database file."""
    return RECORD_OVERHEAD_BYTES + len(key) + (value_bytes or 0)


@dataclass(slots=True)
class Freed:
    """Of one group: superseded values, tombstones, and what both take."""

    versions: int = 0
    tombstones: int = 0
    size_bytes: int = 0

    def add(self, other: Freed) -> None:
        self.versions += other.versions
        self.tombstones += other.tombstones
        self.size_bytes += other.size_bytes

    @property
    def records(self) -> int:
        return self.versions + self.tombstones


@dataclass(frozen=True, slots=True)
class Lost:
    """A key that is deleted as of C. `size_bytes` of its last value, None where compacted."""

    key: bytes
    deleted_at: int
    size_bytes: int | None


@dataclass(slots=True)
class Reclaim:
    """Feed it the events of the window up to C, oldest first."""

    depth: int = 2
    total: Freed = field(default_factory=Freed)
    events: int = 0
    unremembered: int = 0
    """Deleted keys beyond LOST_KEYS_MAX: some of them may be back."""
    _lost: dict[bytes, Lost] = field(default_factory=dict)
    _groups: Groups[Freed] = field(init=False)

    def __post_init__(self) -> None:
        self._groups = Groups(Freed, Freed.add, depth=self.depth)

    def feed(self, events: Iterable[Event]) -> None:
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        self.events += 1
        one = Freed()
        if event.kind != "create" and not (event.is_delete and event.prev is None):
            one.versions = 1
            one.size_bytes = record_bytes(event.key, event.prev.size_bytes if event.prev else 0)
        self._lost.pop(event.key, None)
        if event.is_delete:
            one.tombstones = 1
            one.size_bytes += record_bytes(event.key, 0)
            size = event.prev.size_bytes if event.prev else None
            self._lost[event.key] = Lost(event.key, event.revision, size)
            if len(self._lost) > LOST_KEYS_MAX:
                del self._lost[next(iter(self._lost))]
                self.unremembered += 1
        self.total.add(one)
        self._groups.of(event.key).add(one)

    @property
    def groups(self) -> dict[bytes, Freed]:
        return self._groups.sums

    @property
    def lost_count(self) -> int:
        return len(self._lost) + self.unremembered

    def lost(self, count: int) -> list[Lost]:
        """The keys deleted last: the ones somebody may still want back."""
        return list(self._lost.values())[: -count - 1 : -1]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A revision to compact at, and in words what stays."""

    words: str
    revision: int


def suggestions(newest: int, compacted: int, before: Iterable[tuple[str, int]]) -> list[Suggestion]:
    """`before`: words and the revision the store was at some time ago, where that is known."""
    asked = [*before]
    asked += [(f"keep {kept:,} revisions".replace(",", " "), newest - kept) for kept in KEEPS]
    return [Suggestion(words, at) for words, at in asked if compacted < at <= newest]


KEEPS = (10_000, 1_000)
