"""HashKV: a checksum of the store as of a revision, equal to etcd's (spec/kv.md X1 to X5).

CRC-32C over the word `key` and then every record that counts: key bytes, value bytes, in revision
order. What counts does not depend on how far the removal of compacted records has come, so members
agree whose compactions are at different points.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from crc32c import crc32c

from kvserver.errors import Compacted, FutureRev
from kvserver.mvcc.kv_codec import key_of, varint
from kvserver.mvcc.revision import (
    FIRST,
    TOMBSTONE_LENGTH,
    RevisionKey,
    bound_after,
    is_tombstone,
)

if TYPE_CHECKING:
    from kvserver.mvcc.store import Store

SEED = crc32c(b"key")
"""The name of the table comes first."""
STEP_RECORDS = 1000
STEP_BYTES = 4_000_000


class KVHash(NamedTuple):
    """A hash of the records in (compact_revision, revision] and of what lives below them."""

    hash: int
    compact_revision: int
    revision: int


class HashScan:
    """One pass over the records up to a revision, in steps."""

    __slots__ = (
        "_all",
        "_bound",
        "_compact_bound",
        "_compact_revision",
        "_counted",
        "_is_compaction",
        "_limit",
        "_next",
        "_revision",
        "_store",
    )

    def __init__(
        self, store: Store, revision: int, compact_revision: int, *, is_compaction: bool
    ) -> None:
        """`is_compaction`: for the hash that a compaction stores, a tombstone at exactly its
        revision is a record that it keeps."""
        self._store = store
        self._revision = revision
        self._compact_revision = compact_revision
        self._is_compaction = is_compaction
        self._bound = bound_after(revision)
        self._compact_bound = bound_after(compact_revision)
        self._next = FIRST
        self._limit = STEP_RECORDS
        self._counted = SEED
        self._all: int | None = SEED
        """The hash if no key should turn out to live at `revision`: then every record counts, not
        only those above the compact revision. None as soon as a live one is seen."""

    def step(self) -> bool:
        """Go on for at most limits.SLICE_SECONDS_MAX; True at the end."""
        if not self._bound:
            return True  # a negative revision: the bare word (X3)
        pairs = self._store.backend.scan(self._next, self._bound, self._limit)
        if not pairs:
            return True
        is_last = len(pairs) < self._limit
        size = sum(len(record) for _, record in pairs)
        self._limit = max(1, min(STEP_RECORDS, len(pairs) * STEP_BYTES // (size + 1)))
        self._next = pairs[-1][0] + b"\0"
        if self._compact_revision >= 0:
            pairs = self._without_tombstones_at_compact_revision(pairs)
        self._add(pairs)
        return is_last

    def result(self) -> KVHash:
        value = self._counted if self._all is None else self._all
        return KVHash(value, self._compact_revision, self._revision)

    def _add(self, pairs: list[tuple[RevisionKey, bytes]]) -> None:
        if self._all is not None:
            if any(self._is_kept(revision, record) for revision, record in pairs):
                self._all = None
            else:
                self._all = _crc(pairs, self._all)
        compact_bound = self._compact_bound
        if pairs and pairs[0][0] < compact_bound:
            newest = self._store.index.newest.get
            pairs = [
                pair
                for pair in pairs
                if pair[0] >= compact_bound
                or newest(key_of(pair[1])) == pair[0]  # most of them; the rest needs its history
                or self._is_kept(*pair)
            ]
        self._counted = _crc(pairs, self._counted)

    def _is_kept(self, revision: RevisionKey, record: bytes) -> bool:
        """Whether this is what its key is at the hashed revision (the set L of X2)."""
        if len(revision) == TOMBSTONE_LENGTH:
            return (
                self._is_compaction
                and revision[:8] == self._revision.to_bytes(8)
                and self._is_newest(revision, record)
            )
        return self._store.index.find(key_of(record), self._bound) == revision

    def _is_newest(self, tombstone: RevisionKey, record: bytes) -> bool:
        history = self._store.index.histories.get(key_of(record))
        if history is None or tombstone not in history:
            return False
        position = history.index(tombstone) + 1
        return position == len(history) or history[position] >= self._bound

    def _without_tombstones_at_compact_revision(
        self, pairs: list[tuple[RevisionKey, bytes]]
    ) -> list[tuple[RevisionKey, bytes]]:
        """A store that compacted there earlier has dropped them already."""
        at = self._compact_revision.to_bytes(8)
        return [p for p in pairs if not (is_tombstone(p[0]) and p[0][:8] == at)]


class HashJob:
    """A HashKV request being answered. `step` until it is True, then `result` or `hash`."""

    __slots__ = ("__weakref__", "_scan", "_store", "hash", "revision")

    def __init__(self, store: Store, revision: int) -> None:
        self.revision = revision
        self.hash: KVHash | None = None
        self._store = store
        self._scan = HashScan(store, revision, store.compact_revision, is_compaction=False)

    def step(self) -> bool:
        if self.hash is None and self._scan.step():
            self.hash = self._scan.result()
        return self.hash is not None

    def result(self) -> tuple[int, bytes]:
        """The current revision for the header, and the body of a HashKVResponse (X4)."""
        assert self.hash is not None
        value, compact_revision, revision = self.hash
        body = b"".join(
            tag + varint(number)
            for tag, number in ((b"\x10", value), (b"\x18", compact_revision), (b"\x20", revision))
            if number
        )
        return self._store.revision, body


def hash_kv(store: Store, revision: int) -> HashJob:
    """X3, X5: a compaction's own hash is found by its exact revision only."""
    for known in store.compactions.hashes:
        if known.revision == revision:
            job = HashJob(store, revision)
            job.hash = known
            return job
    if revision > store.revision:
        raise FutureRev
    if 0 < revision < store.compact_revision:
        raise Compacted
    job = HashJob(store, revision or store.revision)
    store.compactions.readers.add(job)
    return job


def _crc(pairs: list[tuple[RevisionKey, bytes]], value: int) -> int:
    return crc32c(b"".join(chain.from_iterable(pairs)), value)
