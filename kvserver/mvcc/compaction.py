"""Compaction: the compact revision at once, the removal in steps (spec/kv.md §9).

`Store.compact` makes reads below the revision fail and records it as scheduled; the job then hashes
what the store holds up to that revision (X5), removes superseded records, and records it as
finished. Killed in between, the next start finds it scheduled and unfinished and does it again;
removing what is already gone does nothing, and no order of removal can revive a key, because all
the records that a key loses go in one backend transaction.

Jobs run in the order of their compactions. A job waits, before its first removal, for cursors that
read below its revision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakSet

from kvserver import failpoints
from kvserver.limits import COMPACTION_BATCH_REVISIONS
from kvserver.mvcc.backend.api import Pair
from kvserver.mvcc.backend.tables import (
    FINISHED_COMPACT_REVISION,
    META,
    SCHEDULED_COMPACT_REVISION,
)
from kvserver.mvcc.hash import HashScan, KVHash
from kvserver.mvcc.range import RangeCursor
from kvserver.mvcc.revision import RevisionKey, bound_after, revision_key

if TYPE_CHECKING:
    from kvserver.mvcc.hash import HashJob
    from kvserver.mvcc.store import Store

HASHES_MAX = 10
"""Compaction hashes that are remembered (X5)."""
STEP_RECORDS = 2000
"""Records hashed in a step: between two steps there is a pause, so they are as long as may be."""
STEP_KEYS = 2000
"""Keys looked at in a step, well below limits.SLICE_SECONDS_MAX."""


class Compactions:
    """The compactions of a store that are not finished, and the hashes of those that are."""

    __slots__ = ("_store", "batch_revisions", "finished_revision", "hashes", "jobs", "readers")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.batch_revisions = COMPACTION_BATCH_REVISIONS
        """Records removed per step; `--compaction-batch-limit`."""
        self.jobs: deque[CompactionJob] = deque()
        self.finished_revision = store.compact_revision
        self.hashes: deque[KVHash] = deque(maxlen=HASHES_MAX)
        self.readers: WeakSet[RangeCursor | HashJob] = WeakSet()
        """Cursors and hashes under way; they vanish from here when nobody holds them any more."""

    def schedule(self, revision: int) -> CompactionJob:
        store = self._store
        previous = store.compact_revision
        # A hash is only worth keeping if everything up to the previous one is gone (X5).
        job = CompactionJob(store, revision, previous, hashes=previous == self.finished_revision)
        store.compact_revision = revision
        failpoints.hit("compactBeforeCommitScheduledCompact")
        store.backend.put(META, SCHEDULED_COMPACT_REVISION, revision_key(revision, 0))
        failpoints.hit("compactAfterCommitScheduledCompact")
        self.jobs.append(job)
        return job

    def resume(self, revision: int) -> CompactionJob:
        """Do an interrupted compaction again. Parts of it may have been done, so what is left has
        no hash that another member could compare (X5)."""
        job = CompactionJob(self._store, revision, self._store.compact_revision, hashes=False)
        self._store.compact_revision = revision
        self.jobs.append(job)
        return job

    def restart(self, finished: int) -> None:
        """The store was rebuilt: nothing that was under way belongs to it."""
        for job in self.jobs:
            job.is_finished = True
        self.jobs.clear()
        self.hashes.clear()
        self.finished_revision = finished

    def finish(self, job: CompactionJob, found: KVHash | None) -> None:
        self.jobs.popleft()
        if found is not None:
            self.hashes.append(found)
        self.finished_revision = job.revision
        failpoints.hit("compactBeforeSetFinishedCompact")
        self._store.backend.put(META, FINISHED_COMPACT_REVISION, revision_key(job.revision, 0))
        failpoints.hit("compactAfterSetFinishedCompact")

    def is_read_below(self, revision: int) -> bool:
        return any(reader.revision < revision for reader in self.readers)


class CompactionJob:
    """The background part of one compaction. `step` until it is True.

    Three passes, each in steps: over the keys, to know which records will go; over the records, for
    the hash of what stays; over the keys again, to remove. Without a hash only the last.
    """

    __slots__ = (
        "_bound",
        "_doomed",
        "_hash",
        "_keys",
        "_scan",
        "_store",
        "_unseen",
        "is_finished",
        "revision",
    )

    def __init__(self, store: Store, revision: int, previous: int, hashes: bool) -> None:
        self.revision = revision
        self.is_finished = False
        self._store = store
        self._bound = bound_after(revision)
        self._keys: dict[bytes, None] | None = None
        self._unseen: Iterator[bytes] | None = None
        """Keys that the first pass has not come to; None when there is no first pass."""
        self._doomed: set[RevisionKey] = set()
        self._scan = (
            HashScan(store.backend, revision, previous, self._kept, STEP_RECORDS)
            if hashes
            else None
        )
        self._hash: KVHash | None = None

    def step(self) -> bool:
        """Go on for at most limits.SLICE_SECONDS_MAX; True when the compaction is finished."""
        if self.is_finished:
            return True
        first = self._store.compactions.jobs[0]
        if first is not self:
            first.step()
            return False
        keys = self._keys if self._keys is not None else self._take_keys()
        if self._unseen is not None:
            self._doom()
        elif self._scan is not None:
            if self._scan.step():
                self._hash = self._scan.result()
                self._scan = None
        elif not self._store.compactions.is_read_below(self.revision):
            self._remove(keys)
        return self.is_finished

    def _take_keys(self) -> dict[bytes, None]:
        """Keys written from now on, and those that still have something to lose after this
        compaction, gather in a new set."""
        index = self._store.index
        self._keys = index.superseded
        index.superseded = {}
        if self._scan is not None:
            self._unseen = iter(self._keys)
        return self._keys

    def _doom(self) -> None:
        assert self._unseen is not None
        histories = self._store.index.histories
        keys = list(islice(self._unseen, STEP_KEYS))
        for key in keys:
            history = histories.get(key)
            if history is not None:
                self._doomed.update(history.superseded(self.revision, self._bound))
        if len(keys) < STEP_KEYS:
            self._unseen = None

    def _kept(self, pairs: list[Pair]) -> list[Pair]:
        doomed = self._doomed
        return [pair for pair in pairs if pair[0] not in doomed]

    def _remove(self, keys: dict[bytes, None]) -> None:
        index = self._store.index
        removed: list[RevisionKey] = []
        batch = self._store.compactions.batch_revisions
        for _ in range(min(len(keys), STEP_KEYS)):
            removed += index.compact_key(keys.popitem()[0], self.revision, self._bound)
            if len(removed) >= batch:
                break
        if removed:
            removed.sort()
            failpoints.hit("compactBeforeCommitBatch")
            self._store.backend.remove_revisions(removed)
            failpoints.hit("compactAfterCommitBatch")
            self._store.counters.compacted += len(removed)
        if not keys:
            self.is_finished = True
            self._doomed = set()
            self._store.compactions.finish(self, self._hash)
