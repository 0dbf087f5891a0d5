"""`LmdbBackend` against `MemoryBackend`: random changes, flushes, crashes, defragmentations.

The two share no merging code. Every step is done to both, and both must answer alike: in the view
of the moment, in what a crash leaves, in the snapshots that were opened on the way.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from kvserver.mvcc.backend.api import NO_GRANT, Backend, Job, Snapshot
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.mvcc.backend.memory import MemoryBackend
from kvserver.mvcc.backend.tables import SMALL_TABLES
from tests.backend.conftest import MAP_SIZE_BYTES, revision_key

small_tables = st.sampled_from(["lease", "alarm", "authUsers", "meta"])
small_keys = st.sampled_from([b"a", b"b", b"scheduledCompactRev", b"\0\0\0\0\0\0\0\1"])


class BackendMachine(RuleBasedStateMachine):
    """Two backends in step."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.path = str(Path(self.directory) / "db")
        self.lmdb = LmdbBackend(self.path, MAP_SIZE_BYTES)
        self.memory = MemoryBackend()
        self.jobs: tuple[Job, Job] | None = None
        self.has_run = self.is_defragmentation = False
        self.main = 1
        self.index = 0
        self.live: list[bytes] = []
        self.snapshots: list[tuple[Snapshot, Snapshot]] = []

    def both(self) -> tuple[Backend, Backend]:
        return self.lmdb, self.memory

    # Changes

    @rule(count=st.integers(1, 40), size=st.integers(1, 6000), is_tombstone=st.booleans())
    def append(self, count: int, size: int, is_tombstone: bool) -> None:
        self.main += 1
        for sub in range(count):
            key = revision_key(self.main, sub, is_tombstone)
            for backend in self.both():
                backend.append(key, key * (1 + size // len(key)))
            self.live.append(key)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        keys = data.draw(st.lists(st.sampled_from(self.live), unique=True, max_size=30))
        for backend in self.both():
            backend.remove_revisions(keys)
        self.live = [key for key in self.live if key not in keys]

    @rule(table=small_tables, key=small_keys, value=st.binary(max_size=20))
    def put(self, table: str, key: bytes, value: bytes) -> None:
        for backend in self.both():
            backend.put(table, key, value)

    @rule(table=small_tables, key=small_keys)
    def delete(self, table: str, key: bytes) -> None:
        for backend in self.both():
            backend.delete(table, key)

    @rule(term=st.integers(0, 3), conf_state=st.sampled_from([b"", b"{}", b'{"voters":[1]}']))
    def mark(self, term: int, conf_state: bytes) -> None:
        self.index += 1
        for backend in self.both():
            backend.commit_marks(self.index, term, conf_state)

    # Jobs

    @precondition(lambda self: self.jobs is None)
    @rule(is_defragmentation=st.booleans())
    def begin(self, is_defragmentation: bool) -> None:
        first, second = (
            backend.begin_defragment() if is_defragmentation else backend.begin_flush()
            for backend in self.both()
        )
        if first is None or second is None:
            # Only the fake counts a record that came and went within one buffer as a change.
            assert first is None and (second is None or not self.lmdb.pending_records)
            if second is not None:
                second.run(NO_GRANT)
                self.memory.finish_flush(second)
            return
        self.jobs, self.has_run = (first, second), False
        self.is_defragmentation = is_defragmentation

    @precondition(lambda self: self.jobs is not None and not self.has_run)
    @rule()
    def run_jobs(self) -> None:
        assert self.jobs is not None
        for job in self.jobs:
            job.run(NO_GRANT)
        self.has_run = True

    @precondition(lambda self: self.has_run)
    @rule()
    def finish(self) -> None:
        assert self.jobs is not None
        for backend, job in zip(self.both(), self.jobs, strict=True):
            if self.is_defragmentation:
                _, close_old = backend.finish_defragment(job)
                close_old.run(NO_GRANT)
            else:
                backend.finish_flush(job)
        self.jobs, self.has_run = None, False

    @rule()
    def crash(self) -> None:
        for _, memory_snapshot in self.snapshots:
            memory_snapshot.close()
        for lmdb_snapshot, _ in self.snapshots:
            lmdb_snapshot.close()
        self.snapshots = []
        self.lmdb.close()
        if self.has_run and self.is_defragmentation:
            assert self.jobs is not None
            self.jobs[0].replacement.close()  # type: ignore[attr-defined]  # the process is gone
        self.lmdb = LmdbBackend(self.path, MAP_SIZE_BYTES)
        self.memory = self.memory.after_crash()
        self.jobs, self.has_run = None, False
        self.live = [key for key, _ in self.memory.scan(b"", b"\xff", 10**9)]
        self.index = self.memory.marks.consistent_index

    # Views

    @rule()
    def open_snapshot(self) -> None:
        if len(self.snapshots) < 3:
            self.snapshots.append((self.lmdb.open_snapshot(), self.memory.open_snapshot()))

    @precondition(lambda self: self.snapshots)
    @rule()
    def read_snapshot(self) -> None:
        pair = self.snapshots.pop(0)
        for table in ("key", *SMALL_TABLES):
            lmdb_rows, memory_rows = ([r for s in each.items(table) for r in s] for each in pair)
            assert lmdb_rows == memory_rows, table
        assert pair[0].marks == pair[1].marks
        for each in pair:
            each.close()

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def get_many(self, data: st.DataObject) -> None:
        keys = data.draw(st.lists(st.sampled_from(self.live), max_size=30))
        assert self.lmdb.get_many(keys) == self.memory.get_many(keys)
        assert [self.lmdb.get(key) for key in keys] == self.memory.get_many(keys)

    @rule(first=st.integers(0, 60), length=st.integers(0, 60), limit=st.integers(0, 100))
    def scan(self, first: int, length: int, limit: int) -> None:
        bounds = (revision_key(first), revision_key(first + length), limit)
        assert self.lmdb.scan(*bounds) == self.memory.scan(*bounds)

    @rule(table=small_tables, key=small_keys)
    def get_from(self, table: str, key: bytes) -> None:
        assert self.lmdb.get_from(table, key) == self.memory.get_from(table, key)

    @invariant()
    def views_are_equal(self) -> None:
        assert self.lmdb.marks == self.memory.marks
        assert self.lmdb.durable_index == self.memory.durable_index
        for table in ("lease", "meta"):
            assert self.lmdb.items(table) == self.memory.items(table)
        lmdb_rows, memory_rows = ([r for s in b.scan_all() for r in s] for b in self.both())
        assert lmdb_rows == memory_rows
        assert self.lmdb.scan(b"", b"\xff", 10**9) == memory_rows

    def teardown(self) -> None:
        self.crash()
        self.views_are_equal()
        self.lmdb.close()
        shutil.rmtree(self.directory)


TestBackendMachine = BackendMachine.TestCase
TestBackendMachine.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True
)
