"""The key index: which revisions every key has (design D5). Everything here is in memory.

Invariants
- `newest` holds exactly the live keys, each with the revision key of its newest put.
- `live` is the keys of `newest` in order; `dead` the keys that are not live but have history.
- `histories` holds the keys about which `newest` does not say everything (see key_index).
- Every revision key held here has a record in the backend.

Owner: the loop. Cost: count of a range O(log n) at the current revision, one dictionary look-up per
key read there. Reads of the past look at live and dead keys and pick their revision.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from typing import Any

from sortedcontainers import SortedList

from kvserver.mvcc.key_index import KeyHistory
from kvserver.mvcc.revision import RevisionKey, main_of

CHANGES_MAX = 32_768
"""How many births and deaths of keys are remembered, to count at a recent revision; half of them
go at a time. Looking through all of them takes about 3 ms."""

Page = tuple[list[RevisionKey], bytes | None]
"""Revision keys in key order, and the key to go on from; None at the end of the interval."""


class Index:
    """All keys and their retained revisions."""

    __slots__ = ("changes", "changes_floor", "dead", "histories", "live", "newest", "superseded")

    def __init__(self) -> None:
        self.newest: dict[bytes, RevisionKey] = {}
        self.histories: dict[bytes, KeyHistory] = {}
        self.live: SortedList = SortedList()
        self.dead: SortedList = SortedList()
        self.superseded: dict[bytes, None] = {}
        """Keys with something to compact, now or after the next write. A dict as an ordered set:
        compaction goes the same way in every replay."""
        self.changes: list[tuple[int, bytes]] = []
        """(main, key) of every key that came to life or died, oldest first."""
        self.changes_floor = 0
        """`changes` is complete above this revision."""

    # Writing

    def put(self, key: bytes, revision: RevisionKey, main: int) -> KeyHistory | None:
        """Record a put. None: the key is new and has no history."""
        # Hot: once per put. The caller takes create_revision and version from what it gets.
        newest = self.newest
        previous = newest.get(key)
        newest[key] = revision
        if previous is not None:
            history = self.histories.get(key)
            if history is None:
                history = self.histories[key] = _history_of(previous)
            history.append(revision)
            history.version += 1
            self.superseded[key] = None
            return history
        self.live.add(key)
        self._note_change(main, key)
        history = self.histories.get(key)
        if history is not None:
            self.dead.remove(key)
            history.append(revision)
            history.create_revision = main
            history.version = 1
        return history

    def delete(self, key: bytes, tombstone: RevisionKey, main: int) -> None:
        """Record the death of a live key."""
        self._bury(key, tombstone)
        self.live.remove(key)
        self.dead.add(key)
        self.superseded[key] = None
        self._note_change(main, key)

    def delete_run(
        self, first: int, keys: list[bytes], tombstones: list[RevisionKey], main: int
    ) -> None:
        """Record the death of neighbours: the live keys from position `first` on."""
        # Hot: one apply may delete a million keys, and nothing else runs meanwhile. Moving them
        # from one ordered list to the other as a whole saves two thirds of the time.
        for key, tombstone in zip(keys, tombstones, strict=True):
            self._bury(key, tombstone)
            self._note_change(main, key)
        del self.live[first : first + len(keys)]
        self.dead.update(keys)
        self.superseded.update(dict.fromkeys(keys))

    def _bury(self, key: bytes, tombstone: RevisionKey) -> None:
        previous = self.newest.pop(key)
        history = self.histories.get(key)
        if history is None:
            self.histories[key] = KeyHistory((previous, tombstone))
        else:
            history.append(tombstone)

    def compact_key(self, key: bytes, revision: int, bound: bytes) -> list[RevisionKey]:
        """Forget what a compaction leaves nobody to read; returns the forgotten revision keys."""
        history = self.histories.get(key)
        if history is None:
            return []
        dropped = history.superseded(revision, bound)
        del history[: len(dropped)]
        newest = self.newest.get(key)
        if not history:
            del self.histories[key]
            self.dead.remove(key)
        elif newest is None or len(history) > 1:
            self.superseded[key] = None
        elif history.version == 1:
            del self.histories[key]
        return dropped

    def discard_some(self, count: int) -> bool:
        """For an index that nobody looks at any more: let about `count` keys of it go; True when
        nothing is left. A million at once hold the loop for a fifth of a second."""
        tables: tuple[dict[bytes, Any], ...] = (self.newest, self.histories, self.superseded)
        for table in tables:
            for _ in range(min(count, len(table))):
                table.popitem()
        for keys in (self.live, self.dead):
            for _ in range(min(count, len(keys))):
                keys.pop()
        self.changes.clear()
        return not (any(tables) or self.live or self.dead)

    # Looking up one key

    def create_revision(self, key: bytes) -> int:
        """Of a live key."""
        history = self.histories.get(key)
        return main_of(self.newest[key]) if history is None else history.create_revision

    def version(self, key: bytes) -> int:
        """Of a live key."""
        history = self.histories.get(key)
        return 1 if history is None else history.version

    def find(self, key: bytes, bound: bytes) -> RevisionKey | None:
        """The put of `key` that is in force below `bound`, a `bound_after` some revision."""
        newest = self.newest.get(key)
        if newest is not None and newest < bound:
            return newest
        history = self.histories.get(key)
        return None if history is None else history.find(bound)

    # Looking up intervals: [key, end), end None meaning no end

    def live_keys(self, key: bytes, end: bytes | None) -> list[bytes]:
        first, last = self.live_positions(key, end)
        return list(self.live.islice(first, last))

    def live_positions(self, key: bytes, end: bytes | None) -> tuple[int, int]:
        """Where the live keys of the interval begin and end: their count is the difference."""
        live = self.live
        first = live.bisect_left(key)
        if end is None:
            return first, len(live)
        return (first, live.bisect_left(end)) if end > key else (first, first)

    def page(self, key: bytes, end: bytes | None, limit: int) -> Page:
        """At most `limit` revisions from `key` on, as of now."""
        keys = list(islice(_within(self.live, key, end), limit))
        following = keys[-1] + b"\0" if len(keys) == limit else None
        return list(map(self.newest.__getitem__, keys)), following

    def page_at(self, key: bytes, end: bytes | None, limit: int, bound: bytes) -> Page:
        """The revisions in force below `bound` of at most `limit` keys from `key` on. The page may
        hold fewer: keys that did not live then are looked at, too."""
        keys = list(islice(_within(self.live, key, end), limit))
        dead = list(islice(_within(self.dead, key, end), limit)) if self.dead else []
        if dead:
            keys += dead
            keys.sort()
            del keys[limit:]
        following = keys[-1] + b"\0" if len(keys) == limit else None
        find = self.find
        return [found for k in keys if (found := find(k, bound)) is not None], following

    # Counting at a recent revision

    def remembers_changes_since(self, revision: int) -> bool:
        return revision >= self.changes_floor

    def changed_since(self, revision: int, key: bytes, end: bytes | None) -> list[bytes]:
        """Keys of the interval that came to life or died after `revision`, which is remembered."""
        changes = self.changes[bisect_left(self.changes, (revision + 1, b"")) :]
        if end is None:
            return list({k for _, k in changes if k >= key})
        return list({k for _, k in changes if key <= k < end})

    def _note_change(self, main: int, key: bytes) -> None:
        changes = self.changes
        changes.append((main, key))
        if len(changes) >= CHANGES_MAX:
            forgotten = len(changes) // 2
            self.changes_floor = changes[forgotten - 1][0]
            del changes[:forgotten]


def _history_of(only: RevisionKey) -> KeyHistory:
    """The history of a key that had none: one put, which created it."""
    history = KeyHistory((only,))
    history.create_revision = main_of(only)
    history.version = 1
    return history


def _within(keys: SortedList, key: bytes, end: bytes | None) -> Iterator[bytes]:
    """The keys of the interval, ascending."""
    if end is not None and end <= key:
        return iter(())
    keys_within: Iterator[bytes] = keys.irange(key, end, (True, False))
    return keys_within
