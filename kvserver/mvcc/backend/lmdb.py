"""`LmdbBackend`: the tables of one member in one LMDB file, behind two write buffers.

Owned by the loop. It reads LMDB through one long-lived read transaction, which `finish_flush` and
`finish_defragment` replace: between two flushes it shows the same state, and it is never more than
one flush behind, so it pins no more pages than one flush frees.

The order of a flush: `begin_flush` freezes the active buffer (it stays readable) -> the job commits
it in the flush thread -> `finish_flush` moves the read transaction past the commit and drops the
buffer. At every moment each record is in at least one layer that reads look into.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, takewhile

from kvserver.errors import FatalError
from kvserver.mvcc.backend.api import Defragmented, Job, Marks, Pair, Snapshot
from kvserver.mvcc.backend.defragment import CloseJob, DefragmentJob
from kvserver.mvcc.backend.environment import (
    RESTORE_HINT,
    Environment,
    lmdb_errors,
    remove_temporaries,
    rename_over,
)
from kvserver.mvcc.backend.flush import FlushJob
from kvserver.mvcc.backend.long_names import NAMED_TABLES, stored_key, whole_names
from kvserver.mvcc.backend.snapshot import LmdbSnapshot
from kvserver.mvcc.backend.tables import (
    CONF_STATE,
    CONSISTENT_INDEX,
    META,
    TERM,
)
from kvserver.mvcc.backend.write_buffer import WriteBuffer, merge_rows, record_pieces

BULK_RECORDS = 10_000
"""Records per slice of `scan_all`: large enough that the calls around them cost nothing."""


class LmdbBackend:
    """See `api.Backend` for the contract of each method."""

    def __init__(self, path: str, map_size_bytes: int) -> None:
        """Open or create. `map_size_bytes` is the quota and headroom above it: address space, not
        disk or memory."""
        self._map_size_bytes = map_size_bytes
        self.removed_temporaries = tuple(remove_temporaries(path))
        self._flushing = WriteBuffer()  # empty while no flush is under way
        self._active = WriteBuffer()
        self._records = self._active.records
        self._job: Job | None = None
        self._defragmentations = 0
        self._environment = Environment(path, map_size_bytes)
        self._reader = self._environment.begin_read()
        self._stored_get = self._new_getter()
        self._read_state()

    def _read_state(self) -> None:
        """What is remembered of the file beside its tables."""
        with lmdb_errors(f"cannot read the backend {self._environment.path}"):
            cursor = self._reader.cursor()
            self._last_key = cursor.key() if cursor.last() else b""
            self._size_in_use_bytes = self._environment.in_use_bytes(self._reader)
            self._size_bytes = self._environment.allocated_bytes()
            self._marks = Marks(
                int.from_bytes(self.get_from(META, CONSISTENT_INDEX) or b""),
                int.from_bytes(self.get_from(META, TERM) or b""),
                self.get_from(META, CONF_STATE) or b"",
            )
        self._durable_index = self._marks.consistent_index

    # Records

    def append(self, revision_key: bytes, record: bytes) -> None:
        # Hot: once per put. The order is what makes every scan a concatenation, so it is checked.
        if revision_key <= self._last_key:
            raise FatalError(f"revision {revision_key.hex()} was appended out of order")
        self._last_key = revision_key
        self._records[revision_key] = record
        self._active.record_bytes += len(record)

    def get(self, revision_key: bytes) -> bytes | None:
        record = self._records.get(revision_key)
        if record is None:
            record = self._flushing.records.get(revision_key)
            if record is None:
                record = self._stored_get(revision_key)
        return record

    def get_many(self, revision_keys: Sequence[bytes]) -> list[bytes]:
        # Hot: the body of every Range. map() over bound methods saves a third of a loop of `get`.
        young, flushing, stored_get = self._records, self._flushing.records, self._stored_get
        found: list[bytes | None]
        if not young and not flushing:
            found = list(map(stored_get, revision_keys))
        else:
            found = list(map(young.get, revision_keys))
            if None in found:
                found = [
                    record or flushing.get(key) or stored_get(key)
                    for key, record in zip(revision_keys, found, strict=True)
                ]
        if None in found:
            missing = revision_keys[found.index(None)]
            raise FatalError(f"record {missing.hex()} is in the index but not in the backend")
        return found  # type: ignore[return-value]  # no None is left

    def scan(self, first: bytes, last: bytes, limit: int) -> list[Pair]:
        flushing, active = self._flushing.removed, self._active.removed
        with lmdb_errors("cannot read the backend"):
            cursor = self._reader.cursor()
            stored = cursor.iternext() if cursor.set_range(first) else iter(())
            pairs: Iterator[Pair] = chain(
                takewhile(lambda pair: pair[0] < last, stored),
                self._flushing.range(first, last),
                self._active.range(first, last),
            )
            if flushing or active:
                pairs = (p for p in pairs if p[0] not in active and p[0] not in flushing)
            return list(islice(pairs, limit))

    def scan_all(self) -> Iterator[list[Pair]]:
        layers = (self._flushing, self._active)
        with lmdb_errors("cannot read the backend"):
            yield from record_pieces(self._reader.cursor().iternext(), layers, BULK_RECORDS)

    def remove_revisions(self, revision_keys: Sequence[bytes]) -> None:
        self._active.remove(revision_keys)

    # Small tables

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._active.tables[table][stored_key(key)] = value

    def delete(self, table: str, key: bytes) -> None:
        self._active.tables[table][stored_key(key)] = None

    def get_from(self, table: str, key: bytes) -> bytes | None:
        key = stored_key(key)
        for layer in (self._active, self._flushing):
            rows = layer.tables[table]
            if key in rows:
                return rows[key]
        with lmdb_errors("cannot read the backend"):
            return self._reader.get(key, db=self._environment.tables[table])

    def items(self, table: str) -> list[Pair]:
        layers = (self._flushing, self._active)
        with lmdb_errors("cannot read the backend"):
            stored = self._reader.cursor(self._environment.tables[table]).iternext()
            rows = merge_rows(stored, layers, table)
        return list(chain(*whole_names([rows]))) if table in NAMED_TABLES else rows

    # Durability

    def commit_marks(self, consistent_index: int, term: int, conf_state: bytes) -> None:
        old = self._marks
        rows = self._active.tables[META]
        rows[CONSISTENT_INDEX] = consistent_index.to_bytes(8)
        rows[TERM] = term.to_bytes(8)
        if conf_state:
            rows[CONF_STATE] = conf_state
        self._marks = Marks(consistent_index, term, conf_state or old.conf_state)

    @property
    def marks(self) -> Marks:
        return self._marks

    @property
    def durable_index(self) -> int:
        return self._durable_index

    @property
    def pending_records(self) -> int:
        return self._active.pending_records

    @property
    def pending_bytes(self) -> int:
        return self._active.record_bytes + self._flushing.record_bytes

    def begin_flush(self) -> Job | None:
        if self._job is not None or self._active.is_empty:
            return None
        self._flushing, self._active = self._active, WriteBuffer()
        self._records = self._active.records
        self._job = FlushJob(self._environment, self._flushing)
        return self._job

    def finish_flush(self, job: Job) -> int:
        assert job is self._job and isinstance(job, FlushJob) and job.is_durable
        self._read_from(self._environment)
        index = self._flushing.tables[META].get(CONSISTENT_INDEX)
        if index is not None:
            self._durable_index = int.from_bytes(index)
        self._flushing = WriteBuffer()
        self._size_bytes, self._size_in_use_bytes = job.size_bytes, job.size_in_use_bytes
        self._job = None
        return self._durable_index

    def begin_defragment(self) -> Job | None:
        if self._job is not None:
            return None
        self._defragmentations += 1
        self._job = DefragmentJob(self._environment, self._map_size_bytes, self._defragmentations)
        return self._job

    def finish_defragment(self, job: Job) -> tuple[Defragmented, Job]:
        assert job is self._job and isinstance(job, DefragmentJob)
        self._job = None
        before = self._size_bytes
        if job.replacement is None:
            return Defragmented(before, before, job.failure), CloseJob(None)
        old = self._environment
        self._read_from(job.replacement)
        self._size_bytes, self._size_in_use_bytes = job.size_bytes, job.size_in_use_bytes
        old.is_retired = True
        return Defragmented(before, job.size_bytes), CloseJob(None if old.snapshots else old)

    def adopt(self, path: str) -> Job:
        """Let the complete file at `path` take the place of ours: whatever was here is forgotten,
        the buffers included. No job is under way. Returns the job that closes the old file."""
        assert self._job is None
        if not os.path.exists(path):
            raise FatalError(f"the received database {path} is gone. {RESTORE_HINT}")
        old = self._environment
        replacement = Environment(path, self._map_size_bytes)
        with lmdb_errors(f"cannot put {path} in the place of the backend"):
            rename_over(path, old.path)
        replacement.path = old.path
        self._flushing, self._active = WriteBuffer(), WriteBuffer()
        self._records = self._active.records
        self._read_from(replacement)
        self._read_state()
        old.is_retired = True
        return CloseJob(None if old.snapshots else old)

    def _new_getter(self) -> Callable[[bytes], bytes | None]:
        """Through one long-lived cursor: neighbouring records, which is what a Range asks for,
        come a third faster than by `Transaction.get`."""
        get: Callable[[bytes], bytes | None] = self._reader.cursor().get
        return get

    def _read_from(self, environment: Environment) -> None:
        """Let go of what the read transaction pinned, and see the newest commit."""
        self._reader.abort()
        self._environment = environment
        with lmdb_errors("cannot read the backend"):
            self._reader = environment.begin_read()
        self._stored_get = self._new_getter()

    # Views and sizes

    def open_snapshot(self) -> Snapshot:
        with lmdb_errors("cannot read the backend"):
            txn = self._environment.begin_read()
        # A flush may have committed and not be finished: its buffer is in what this transaction
        # sees, and must not be laid over it a second time.
        is_committed = txn.id() != self._reader.id()
        layers = [] if is_committed else [self._flushing]
        return LmdbSnapshot(self._environment, txn, [*layers, self._active.copy()], self._marks)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def size_in_use_bytes(self) -> int:
        return self._size_in_use_bytes

    def close(self) -> None:
        self._reader.abort()
        self._environment.close()
