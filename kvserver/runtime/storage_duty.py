"""What a member owes its disks: WAL batches, flushes of the backend, raft snapshots (design D3).

The WAL is the authority. Applied changes gather in the backend's buffer and reach LMDB a tenth of
a second later, together with the applied index. A snapshot record follows once LMDB has durably
passed its index; only then are older WAL segments let go (spec/storage.md §3).

Owner: the loop. `write` alone runs in the append thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kvserver import failpoints
from kvserver.clock import Clock
from kvserver.limits import (
    FLUSH_BYTES_MAX,
    LOG_HELD_BYTES_MAX,
    LOG_HELD_ENTRIES_MAX,
    UNFLUSHED_BYTES_MAX,
)
from kvserver.logs import Logger
from kvserver.membership.cluster import Membership
from kvserver.membership.codec import encode_conf_state
from kvserver.membership.legacy_image import encode_legacy_image
from kvserver.metrics.histogram import Histogram, exponential
from kvserver.mvcc.backend.api import Job
from kvserver.raft import ConfState, Entry, HardState, MemoryStorage, RawNode, Snapshot
from kvserver.runtime.append_thread import AppendThread
from kvserver.runtime.flush_thread import FlushThread
from kvserver.snap import Snapshotter
from kvserver.wal import AppendBatch, Wal

INSTALL_RETRY_SECONDS = 0.005
JOB_LOOK_SECONDS = 0.01
"""How often a defragmentation looks whether the job before it has ended."""
DISK_BUCKETS = exponential(0.001, 2, 14)


def may_hold(log: MemoryStorage, last: int) -> bool:
    """Whether the entries up to `last` are few enough to be kept for a receiver that is slow."""
    if last < log.first_index:
        return True
    if last - log.first_index >= LOG_HELD_ENTRIES_MAX:
        return False
    entries = log.slice(log.first_index, last)
    return sum([len(entry.data) for entry in entries]) <= LOG_HELD_BYTES_MAX


class Figures:
    """What the disks have taken, for the metrics."""

    def __init__(self) -> None:
        self.wal_fsync = Histogram(DISK_BUCKETS)
        self.wal_bytes = 0
        self.backend_commit = Histogram(DISK_BUCKETS)
        self.defragment = Histogram(exponential(0.1, 2, 13))
        self.snapshot_save = Histogram(DISK_BUCKETS)


class StorageDuty:
    """Keeps WAL, backend and snapshots in step with what is applied."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        backend: Any,
        flush: FlushThread,
        wal: Wal,
        snapshotter: Snapshotter,
        purge: Callable[[], None],
        append: AppendThread,
        node: RawNode,
        membership: Membership,
        snapshot_index: int,
        flush_interval_seconds: float,
        flush_records: int,
        snapshot_entries: int,
        catch_up_entries: int,
        log: Logger,
    ) -> None:
        self.backend = backend
        self.figures = Figures()
        self.is_defragmenting = False
        self.on_defragmenting: Callable[[bool], None] = lambda is_under_way: None
        """Told when a defragmentation begins and when it has ended, however it did."""
        self.on_room: Callable[[], None] = lambda: None
        """Called after a flush, so that a member that held back proposals goes on."""
        self._loop = loop
        self._clock = clock
        self._flush = flush
        self._wal = wal
        self.write = wal.write
        """Write and sync one append (append thread)."""
        self._snapshotter = snapshotter
        self._purge = purge
        self._append = append
        self._node = node
        self._membership = membership
        self._snapshot_index = snapshot_index
        self._flush_interval_seconds = flush_interval_seconds
        self._flush_records = flush_records
        self._snapshot_entries = snapshot_entries
        self._catch_up_entries = catch_up_entries
        self._log = log
        self._conf_state = node.conf_state
        self._conf_state_bytes = encode_conf_state(node.conf_state)
        self._conf_state_index = 0
        self._applied_index = backend.marks.consistent_index
        self._is_job_under_way = False
        self._is_snapshot_under_way = False
        self._is_installing = False
        self._log_holds = 0
        self._is_flush_wanted = False
        self._timer: asyncio.TimerHandle | None = None
        self._flush_started = 0.0
        self._waiters: list[tuple[int, Callable[[], None]]] = []

    @property
    def is_moving(self) -> bool:
        """Whether a whole database is being read for another member, written anew or installed: no
        moment to trust the disk to be quick."""
        return bool(self._log_holds) or self.is_defragmenting or self._is_installing

    # -- the WAL

    def encode(self, hard_state: HardState | None, entries: list[Entry]) -> AppendBatch:
        """The bytes of one append (loop)."""
        batch = self._wal.encode(hard_state, entries, True)
        self.figures.wal_bytes += len(batch.data)
        return batch

    def note_append(self, took_seconds: float) -> None:
        self.figures.wal_fsync.observe(took_seconds)
        if took_seconds > 1.0:
            self._log.warn("slow fdatasync", took=took_seconds, expected_duration=1.0)

    # -- the backend

    @property
    def is_choked(self) -> bool:
        """Whether applied changes gather faster than the disk takes them."""
        return bool(self.backend.pending_bytes > UNFLUSHED_BYTES_MAX)

    def note_conf_state(self, conf_state: ConfState, index: int) -> None:
        self._conf_state = conf_state
        self._conf_state_bytes = encode_conf_state(conf_state)
        self._conf_state_index = index

    def note_applied(self, index: int, term: int) -> None:
        """Everything up to `index` is in the backend's buffer; see that it reaches the disk."""
        self._applied_index = index
        self.backend.commit_marks(index, term, self._conf_state_bytes)
        if (
            self.backend.pending_records >= self._flush_records
            or self.backend.pending_bytes >= FLUSH_BYTES_MAX
        ):
            self.flush_now()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._flush_interval_seconds, self.flush_now)

    def flush_now(self) -> None:
        """Start a flush, or have one follow the job under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_job_under_way or self._is_installing:
            self._is_flush_wanted = True
            return
        self._is_flush_wanted = False
        job = self.backend.begin_flush()
        if job is not None:
            self._is_job_under_way = True
            self._flush_started = self._clock.monotonic()
            self._flush.submit(job, self._flushed)

    def _flushed(self, job: Job) -> None:
        self._is_job_under_way = False
        durable = self.backend.finish_flush(job)
        self.figures.backend_commit.observe(self._clock.monotonic() - self._flush_started)
        self._after_job(durable)
        self._maybe_snapshot(durable)
        self.on_room()

    def _after_job(self, durable: int) -> None:
        due = [callback for index, callback in self._waiters if index <= durable]
        self._waiters = [pair for pair in self._waiters if pair[0] > durable]
        for callback in due:
            callback()
        if self._is_flush_wanted or self._waiters:
            self.flush_now()

    def when_durable(self, callback: Callable[[], None]) -> None:
        """Call back once everything applied so far is in LMDB on disk.

        Not at once: whoever asks may do so in the middle of a slice of applying, whose effects are
        in the buffer while the index that vouches for them is not. A flush would tear them apart,
        and after a crash they would be applied a second time.
        """
        self._loop.call_soon(self._when_durable, callback)

    def _when_durable(self, callback: Callable[[], None]) -> None:
        if self.backend.durable_index >= self._applied_index and not self.backend.pending_records:
            callback()
            return
        self._waiters.append((self._applied_index, callback))
        self.flush_now()

    # -- defragmentation (design D8)

    def defragment(self, done: Callable[[str], None]) -> None:
        """Rewrite the backend's file beside running requests; `done` hears why it failed, or ""."""
        self.is_defragmenting = True
        self.on_defragmenting(True)
        started = self._clock.monotonic()
        self._log.info("starting defragment", **self._sizes())

        def begin() -> None:
            # A job may be under way although everything is durable (it carries nothing but marks),
            # so this waits for a moment, not for durability.
            job = None if self._is_job_under_way else self.backend.begin_defragment()
            if job is None:
                self._loop.call_later(JOB_LOOK_SECONDS, begin)
                return
            self._is_job_under_way = True
            self._flush.submit(job, copied)

        def copied(job: Job) -> None:
            outcome, close = self.backend.finish_defragment(job)
            self._flush.submit(close, lambda _: None)
            self._is_job_under_way = False
            self.is_defragmenting = False
            self.on_defragmenting(False)
            took = self._clock.monotonic() - started
            self.figures.defragment.observe(took)
            if outcome.failure:
                self._log.warn("failed to defragment", took=took, error=outcome.failure)
            else:
                self._log.info(
                    "finished defragment",
                    took=took,
                    size_before=outcome.size_bytes_before,
                    size_after=outcome.size_bytes_after,
                )
            self._is_flush_wanted = True
            self._after_job(self.backend.durable_index)
            done(outcome.failure)

        self.when_durable(begin)

    def _sizes(self) -> dict[str, int]:
        return {
            "current_db_size_bytes": self.backend.size_bytes,
            "current_db_size_in_use_bytes": self.backend.size_in_use_bytes,
        }

    # -- raft snapshots

    def _maybe_snapshot(self, durable: int) -> None:
        if (
            self._is_snapshot_under_way
            or self._is_installing
            or durable - self._snapshot_index <= self._snapshot_entries
            or durable < self._conf_state_index
        ):
            return
        self._is_snapshot_under_way = True
        self._log.info("triggering snapshot", local_member_snapshot_index=durable)
        snapshot = self._node.storage.create_snapshot(
            durable, self._conf_state, encode_legacy_image(self._membership)
        )
        self._append.submit(
            lambda: self._save_snapshot_file(snapshot),
            lambda took: self._vouch_for_snapshot(snapshot, took),
        )

    def _save_snapshot_file(self, snapshot: Snapshot) -> None:
        self._snapshotter.save(snapshot)

    def _vouch_for_snapshot(self, snapshot: Snapshot, took_seconds: float) -> None:
        """The file is durable: say so in the WAL, after a commit index that covers it, so that a
        restart believes it; then let older segments go."""
        self.figures.snapshot_save.observe(took_seconds)
        status = self._node.status()
        hard_state = HardState(status.term, status.vote, status.committed)
        commit = self._wal.encode(hard_state, [], True)
        record = self._wal.encode_snapshot(snapshot.index, snapshot.term, snapshot.conf_state)

        def write() -> None:
            self._wal.write(commit)
            self._wal.write(record)
            self._wal.release_to(snapshot.index)

        def done(took: float) -> None:
            self._is_snapshot_under_way = False
            self._snapshot_index = max(self._snapshot_index, snapshot.index)
            self._log.info("saved snapshot", snapshot_index=snapshot.index)
            self._compact_log(snapshot.index)

        self._append.submit(write, done)

    def _compact_log(self, index: int) -> None:
        """Keep some entries in memory for followers that lag (spec/storage.md §3)."""
        last = index - self._catch_up_entries
        if last > 0 and not (self._log_holds and may_hold(self._node.storage, last)):
            self._node.storage.compact(last)
            self._log.info("compacted Raft logs", compact_index=last)

    def hold_log(self) -> None:
        """Compact nothing, within limits, while a database is on its way to a member
        (spec/peer.md §4.2)."""
        self._log_holds += 1

    def release_log(self) -> None:
        self._log_holds -= 1

    # -- snapshots of the leader

    def save_received(self, snapshot: Snapshot) -> None:
        """Its file, then its record in the log; the commit index that covers it follows with the
        same Ready's append. Until it is installed nothing else may touch backend or snapshots."""
        self._is_installing = True
        record = self._wal.encode_snapshot(snapshot.index, snapshot.term, snapshot.conf_state)

        def write() -> None:
            self._snapshotter.save(snapshot)
            self._wal.write(record)

        self._append.submit(write, lambda took: self.figures.snapshot_save.observe(took))

    @property
    def is_installing(self) -> bool:
        """Whether a database from the leader is on its way into the place of ours."""
        return self._is_installing

    def install(self, snapshot: Snapshot, path: str, done: Callable[[], None]) -> None:
        """Put the backend file at `path` in the place of ours, once no job is under way."""
        if self._is_job_under_way:
            self._loop.call_later(INSTALL_RETRY_SECONDS, self.install, snapshot, path, done)
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        failpoints.hit("applyBeforeOpenSnapshot")
        self._flush.submit(self.backend.adopt(path), lambda _: None)
        self.note_conf_state(snapshot.conf_state, snapshot.index)
        self._applied_index = snapshot.index
        self._snapshot_index = max(self._snapshot_index, snapshot.index)
        done()
        self._is_installing = False
        self._after_job(self.backend.durable_index)

    def purge(self) -> None:
        """Remove WAL segments and snapshots that nobody needs any more (every 30 s)."""
        self._append.submit(self._purge, lambda took: None)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
