"""HashKV: a checksum of the store as of a revision, equal to etcd's (spec/kv.md X1 to X5).

CRC-32C over the word `key` and then every record that counts: key bytes, value bytes, in revision
order. What counts does not depend on how far the removal of compacted records has come, so members
agree whose compactions are at different points.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from crc32c import crc32c

from kvserver.errors import Compacted, FutureRev
from kvserver.mvcc.backend.api import Backend, Pair
from kvserver.mvcc.index import Index
from kvserver.mvcc.kv_codec import key_of, varint
from kvserver.mvcc.revision import FIRST, bound_after, is_tombstone

if TYPE_CHECKING:
    from kvserver.mvcc.store import Store

SEED = crc32c(b"key")
"""The name of the table comes first."""
STEP_RECORDS = 500
"""Each may need its key looked up among a million."""
STEP_BYTES = 4_000_000

Kept = Callable[[list[Pair]], list[Pair]]
"""Those of some records that are what their keys are at the hashed revision (the set L of X2)."""


class KVHash(NamedTuple):
    """A hash of the records in (compact_revision, revision] and of what lives below them."""

    hash: int
    compact_revision: int
    revision: int


class HashScan:
    """One pass over the records up to a revision, in steps."""

    __slots__ = (
        "_all",
        "_backend",
        "_bound",
        "_compact_bound",
        "_compact_revision",
        "_counted",
        "_kept",
        "_limit",
        "_next",
        "_revision",
        "_step_records",
        "_survives",
    )

    def __init__(
        self,
        backend: Backend,
        revision: int,
        compact_revision: int,
        kept: Kept,
        step_records: int,
        survives: Kept | None = None,
    ) -> None:
        """`survives`: of records up to the compact revision, those that the compaction leaves; None
        when it has ended and left no others."""
        self._backend = backend
        self._revision = revision
        self._compact_revision = compact_revision
        self._kept = kept
        self._survives = survives
        self._bound = bound_after(revision)
        self._compact_bound = bound_after(compact_revision)
        self._next = FIRST
        self._step_records = step_records
        self._limit = step_records
        self._counted = SEED
        self._all: int | None = SEED
        """The hash if no key should turn out to live at `revision`: then every record counts, not
        only those above the compact revision. None as soon as a live one is seen."""

    def step(self) -> bool:
        """Go on for at most limits.SLICE_SECONDS_MAX; True at the end."""
        if not self._bound:
            return True  # a negative revision: the bare word (X3)
        pairs = self._backend.scan(self._next, self._bound, self._limit)
        if not pairs:
            return True
        is_last = len(pairs) < self._limit
        self._next = pairs[-1][0] + b"\0"
        size = sum(len(record) for _, record in pairs)
        self._limit = max(1, min(self._step_records, len(pairs) * STEP_BYTES // (size + 1)))
        self._add(self._without_tombstones_at_compact_revision(pairs))
        return is_last

    def result(self) -> KVHash:
        value = self._counted if self._all is None else self._all
        return KVHash(value, self._compact_revision, self._revision)

    def _add(self, pairs: list[Pair]) -> None:
        below = bisect_left(pairs, self._compact_bound, key=itemgetter(0))
        if self._all is not None:
            self._all = None if self._kept(pairs) else _crc(self._lasting(pairs, below), self._all)
        if below:
            pairs = self._kept(pairs[:below]) + pairs[below:]
        self._counted = _crc(pairs, self._counted)

    def _lasting(self, pairs: list[Pair], below: int) -> list[Pair]:
        """Without what a compaction under way will have removed: the hash must not depend on how
        far it has come, or members would accuse each other."""
        if self._survives is None or not below:
            return pairs
        return self._survives(pairs[:below]) + pairs[below:]

    def _without_tombstones_at_compact_revision(self, pairs: list[Pair]) -> list[Pair]:
        """A store that compacted there earlier has dropped them already."""
        if pairs[0][0] >= self._compact_bound:
            return pairs
        at = self._compact_revision.to_bytes(8)
        return [pair for pair in pairs if not (is_tombstone(pair[0]) and pair[0][:8] == at)]


class HashJob:
    """A HashKV request being answered. `step` until it is True, then `result` or `hash`."""

    __slots__ = ("__weakref__", "_scan", "_store", "hash", "revision")

    def __init__(self, store: Store, revision: int, known: KVHash | None = None) -> None:
        self.revision = revision
        self.hash = known
        self._store = store
        compact_revision = store.compact_revision
        kept = _live_at(store.index, bound_after(revision))
        survives = _live_at(store.index, bound_after(compact_revision))
        self._scan = HashScan(
            store.backend, revision, compact_revision, kept, STEP_RECORDS, survives
        )

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
            return HashJob(store, revision, known)
    if revision > store.revision:
        raise FutureRev
    if 0 < revision < store.compact_revision:
        raise Compacted
    job = HashJob(store, revision or store.revision)
    store.compactions.readers.add(job)
    return job


def _live_at(index: Index, bound: bytes) -> Kept:
    """The puts in force below `bound`."""

    def kept(pairs: list[Pair]) -> list[Pair]:
        newest, find = index.newest.get, index.find
        return [
            pair
            for pair in pairs
            if newest(key := key_of(pair[1])) == pair[0] or find(key, bound) == pair[0]
        ]

    return kept


def _crc(pairs: list[Pair], value: int) -> int:
    return crc32c(b"".join(chain.from_iterable(pairs)), value)
