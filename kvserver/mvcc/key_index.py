"""The history of one key, for keys that have one.

Most keys of most stores have been put once; the index keeps no object for them at all, because the
revision key of that put says everything: create_revision = mod_revision = its main, version 1. A
`KeyHistory` exists once a key has been put again or deleted.
"""

from __future__ import annotations

from bisect import bisect_left

from kvserver.mvcc.revision import TOMBSTONE_LENGTH, RevisionKey, main_of


class KeyHistory(list[RevisionKey]):
    """The retained revision keys of a key, ascending; a tombstone ends a generation (M5).

    Itself the list, because a million of them are half the size of a million objects with a list.
    """

    __slots__ = ("create_revision", "version")

    create_revision: int
    """Of the newest generation, and so is `version`; meaningless while the key is dead."""
    version: int

    def find(self, bound: bytes) -> RevisionKey | None:
        """The newest put below `bound`; None if there is none or a tombstone follows it."""
        position = bisect_left(self, bound)
        if not position:
            return None
        found = self[position - 1]
        return None if len(found) == TOMBSTONE_LENGTH else found

    def superseded(self, revision: int, bound: bytes) -> list[RevisionKey]:
        """What a compaction at `revision` leaves nobody to read (Z3): always the oldest ones.

        `bound` is `bound_after(revision)`. The newest record up to it stays if the key is live
        there, or if it is a tombstone at exactly that revision, for watchers that start there.
        """
        position = bisect_left(self, bound)
        if not position:
            return []
        newest = self[position - 1]
        if len(newest) != TOMBSTONE_LENGTH or main_of(newest) == revision:
            position -= 1
        return self[:position]
