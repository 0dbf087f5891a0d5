"""`MemoryBackend`: the backend as plain dictionaries, for tests and the simulator.

Not a cache and not a mock: it keeps the rules of `api.Backend`, and `after_crash` gives back what a
crash would have left. It shares no merging code with `LmdbBackend`, so that comparing the two finds
mistakes of either. Owned by whoever made it; no threads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from kvserver import failpoints
from kvserver.errors import FatalError
from kvserver.mvcc.backend.api import Defragmented, Grant, Job, Marks, Pair, Snapshot
from kvserver.mvcc.backend.tables import (
    CONF_STATE,
    CONSISTENT_INDEX,
    KEY,
    MARKS,
    META,
    SMALL_TABLES,
    TABLES,
    TERM,
)

SLICE_RECORDS = 1000

Change = tuple[str, bytes, bytes | None]
Contents = dict[str, dict[bytes, bytes]]


def _small(table: str) -> str:
    """The table's own name; KeyError, as from the real backend, for the key table and unknowns."""
    if table not in SMALL_TABLES:
        raise KeyError(table)
    return table


def _apply(contents: Contents, changes: list[Change]) -> int:
    """Returns by how many bytes the contents have grown."""
    grown = 0
    for table, key, value in changes:
        rows = contents[table]
        old = rows.pop(key, None) if value is None else rows.get(key)
        if old is not None:
            grown -= len(key) + len(old)
        if value is not None:
            rows[key] = value
            grown += len(key) + len(value)
    return grown


def _marks_of(contents: Contents) -> Marks:
    meta = contents[META]
    return Marks(
        int.from_bytes(meta.get(CONSISTENT_INDEX, b"")),
        int.from_bytes(meta.get(TERM, b"")),
        meta.get(CONF_STATE, b""),
    )


class _FlushJob:
    """Changes on their way into the durable contents."""

    def __init__(self, durable: Contents, changes: list[Change]) -> None:
        self._durable = durable
        self._changes = changes
        self.grown_bytes = 0

    def run(self, grant: Grant) -> None:
        failpoints.hit("beforeCommit")
        with grant:
            self.grown_bytes = _apply(self._durable, self._changes)
        failpoints.hit("afterCommit")


class _DefragmentJob:
    """Memory has no holes to close."""

    def run(self, grant: Grant) -> None:
        failpoints.hit("defragBeforeCopy")
        failpoints.hit("defragBeforeRename")


class _IdleJob:
    """Nor an old file to let go of."""

    def run(self, grant: Grant) -> None:
        with grant:
            pass


class MemorySnapshot:
    """A copy taken at the moment of opening."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.marks = _marks_of(contents)

    def items(self, table: str) -> Iterator[list[Pair]]:
        pairs = sorted(self._contents[table].items())
        for first in range(0, len(pairs), SLICE_RECORDS):
            yield pairs[first : first + SLICE_RECORDS]

    def close(self) -> None:
        self._contents = {}


class MemoryBackend:
    """All tables in dictionaries; `_durable` is what the disk would hold."""

    def __init__(self, durable: Contents | None = None) -> None:
        self._durable: Contents = durable if durable is not None else {t: {} for t in TABLES}
        self._now: Contents = {table: dict(rows) for table, rows in self._durable.items()}
        self._sorted_keys: list[bytes] = sorted(self._now[KEY])
        self._last_key = self._sorted_keys[-1] if self._sorted_keys else b""
        self._removed: set[bytes] = set()
        self._changes: list[Change] = []
        self._marks_changed = False
        self._job: Job | None = None
        self._settled = 0
        self._pending = 0
        self._active_bytes = 0
        self._flushing_bytes = 0
        self._size_bytes = sum(
            len(key) + len(value) for rows in self._durable.values() for key, value in rows.items()
        )

    @property
    def durable(self) -> Contents:
        """What the disk would hold; the caller's own, to make another backend of."""
        return self._durable

    def after_crash(self) -> MemoryBackend:
        """What a process that starts now would find: a job that has run counts, others do not."""
        return MemoryBackend({table: dict(rows) for table, rows in self._durable.items()})

    def append(self, revision_key: bytes, record: bytes) -> None:
        if revision_key <= self._last_key:
            raise FatalError(f"revision {revision_key.hex()} was appended out of order")
        self._last_key = revision_key
        self._sorted_keys.append(revision_key)
        self._change(KEY, revision_key, record)

    def get(self, revision_key: bytes) -> bytes | None:
        return self._now[KEY].get(revision_key)

    def get_many(self, revision_keys: Sequence[bytes]) -> list[bytes]:
        records = self._now[KEY]
        try:
            return [records[key] for key in revision_keys]
        except KeyError as missing:
            raise FatalError(f"record {missing} is in the index but not in the backend") from None

    def scan(self, first: bytes, last: bytes, limit: int) -> list[Pair]:
        records = self._now[KEY]
        pairs: list[Pair] = []
        for position in range(bisect_left(self._keys(), first), len(self._sorted_keys)):
            key = self._sorted_keys[position]
            if key >= last or len(pairs) >= limit:
                break
            pairs.append((key, records[key]))
        return pairs

    def scan_all(self) -> Iterator[list[Pair]]:
        records = self._now[KEY]
        keys = self._keys()
        for first in range(0, len(keys), SLICE_RECORDS):
            yield [(key, records[key]) for key in keys[first : first + SLICE_RECORDS]]

    def remove_revisions(self, revision_keys: Sequence[bytes]) -> None:
        for key in revision_keys:
            if key in self._now[KEY]:
                self._removed.add(key)
            self._change(KEY, key, None)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._change(_small(table), key, value)

    def delete(self, table: str, key: bytes) -> None:
        self._change(_small(table), key, None)

    def get_from(self, table: str, key: bytes) -> bytes | None:
        return self._now[_small(table)].get(key)

    def items(self, table: str) -> list[Pair]:
        return sorted(self._now[_small(table)].items())

    def commit_marks(self, consistent_index: int, term: int, conf_state: bytes) -> None:
        new = {CONSISTENT_INDEX: consistent_index.to_bytes(8), TERM: term.to_bytes(8)}
        if conf_state:
            new[CONF_STATE] = conf_state
        self._now[META].update(new)
        self._marks_changed = True

    @property
    def marks(self) -> Marks:
        return _marks_of(self._now)

    @property
    def durable_index(self) -> int:
        return _marks_of(self._durable).consistent_index if self._job is None else self._settled

    @property
    def pending_records(self) -> int:
        return self._pending

    @property
    def pending_bytes(self) -> int:
        return self._active_bytes + self._flushing_bytes

    def begin_flush(self) -> Job | None:
        if self._job is not None or not (self._changes or self._marks_changed):
            return None
        self._settled = self.durable_index
        meta = self._now[META]
        marks: list[Change] = [(META, key, meta[key]) for key in MARKS if key in meta]
        self._job = _FlushJob(self._durable, [*self._changes, *marks])
        self._changes = []
        self._pending = 0
        self._flushing_bytes, self._active_bytes = self._active_bytes, 0
        self._marks_changed = False
        return self._job

    def finish_flush(self, job: Job) -> int:
        assert job is self._job and isinstance(job, _FlushJob)
        self._job = None
        self._flushing_bytes = 0
        self._size_bytes += job.grown_bytes
        return self.durable_index

    def begin_defragment(self) -> Job | None:
        if self._job is not None:
            return None
        self._settled = self.durable_index
        self._job = _DefragmentJob()
        return self._job

    def finish_defragment(self, job: Job) -> tuple[Defragmented, Job]:
        assert job is self._job
        self._job = None
        return Defragmented(self.size_bytes, self.size_bytes), _IdleJob()

    def open_snapshot(self) -> Snapshot:
        return MemorySnapshot({table: dict(rows) for table, rows in self._now.items()})

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def size_in_use_bytes(self) -> int:
        return self.size_bytes

    def close(self) -> None:
        self._now = {table: {} for table in TABLES}

    def _change(self, table: str, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._now[table].pop(key, None)
        else:
            self._now[table][key] = value
            if table == KEY:
                self._active_bytes += len(value)
        self._changes.append((table, key, value))
        self._pending += 1

    def _keys(self) -> list[bytes]:
        """The live revision keys, ascending; removals are swept out when somebody looks."""
        if self._removed:
            self._sorted_keys = [key for key in self._sorted_keys if key not in self._removed]
            self._removed = set()
        return self._sorted_keys
