"""From a data directory to everything a member starts with (spec/storage.md §6).

Order: the backend and its applied index; the newest snapshot that the WAL vouches for; the WAL,
repaired if its tail is torn; raft's log; leases, alarms, membership and the key index from the
backend. Entries after the applied index are applied again by raft itself, like any others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kvserver.apply.alarms import Alarms
from kvserver.auth import AuthStore
from kvserver.errors import FatalError
from kvserver.fs import FileSystem
from kvserver.lease import Lessor
from kvserver.limits import BACKEND_HEADROOM_BYTES, BACKEND_MAP_BYTES_MIN, WAL_SEGMENT_BYTES
from kvserver.logs import Logger
from kvserver.membership import Member, Membership, cluster_id, member_id
from kvserver.membership.codec import decode_conf_state, encode_conf_context
from kvserver.mvcc.backend.api import NO_GRANT, FileBackend
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.mvcc.compaction import CompactionJob
from kvserver.mvcc.store import Store
from kvserver.peers.joining import Joined
from kvserver.raft import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    MemoryStorage,
    Snapshot,
)
from kvserver.raft.codec import encode_conf_change
from kvserver.snap import Snapshotter, StartingPoint, open_at_newest
from kvserver.snap.snapshotter import snapshot_db_name
from kvserver.standalone import stand_alone
from kvserver.wal import Wal, WalMetadata, decode_metadata, encode_metadata, has_segments


@dataclass(frozen=True, slots=True)
class Founding:
    """What a new cluster is founded with: this member's name, its peer URLs and the token; the
    URLs of all founding members by name, where there are others; how to join instead."""

    name: str
    peer_urls: tuple[str, ...]
    token: str
    cluster: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    join: Callable[[], Joined] | None = None
    """Set for `--initial-cluster-state existing`: asks the others."""
    check: Callable[[int], None] | None = None
    """Refuses to found what was founded already; called with this member's id."""
    validate: Callable[[], None] = lambda: None
    """Refuses flags that contradict each other; a member with data ignores them all (§2)."""
    is_forced: bool = False
    """--force-new-cluster: what the disk holds goes on as a cluster of one."""

    def members(self) -> list[Member]:
        """The founding members, in ascending id order."""
        cluster = self.cluster or {self.name: self.peer_urls}
        members = [
            Member(member_id(urls, self.token), tuple(urls), name) for name, urls in cluster.items()
        ]
        return sorted(members, key=lambda member: member.id)


@dataclass(slots=True)
class Recovered:
    """Everything that the disk holds of this member."""

    member_id: int
    cluster_id: int
    wal: Wal
    snapshotter: Snapshotter
    backend: FileBackend
    raft_storage: MemoryStorage
    applied_index: int
    snapshot_index: int
    known_members: tuple[Member, ...] = ()
    """Of a cluster this member is about to join: the log has not told yet."""


@dataclass(slots=True)
class State:
    """The state machines, rebuilt from the backend."""

    store: Store
    lessor: Lessor
    alarms: Alarms
    membership: Membership
    auth: AuthStore
    interrupted_compaction: CompactionJob | None


def recover(
    fs: FileSystem,
    snap_dir: str,
    wal_dir: str,
    founding: Founding,
    quota_bytes: int,
    log: Logger,
    open_backend: Callable[[str, int], FileBackend] = LmdbBackend,
    segment_bytes: int = WAL_SEGMENT_BYTES,
) -> Recovered:
    """Open what is there, or found a new cluster where there is nothing. `open_backend(path, bytes
    of address space)` and `segment_bytes` are the simulator's to choose."""
    snapshotter = Snapshotter(fs, snap_dir, log)
    backend_path = os.path.join(snap_dir, "db")
    is_new = not has_segments(fs, wal_dir)
    if is_new and fs.exists(backend_path):
        # A crash between making the backend and the log leaves an empty backend; one with
        # applied entries and no log is a lost WAL directory.
        log.warn("found a backend without a write-ahead log", path=backend_path)
    backend = open_backend(backend_path, map_bytes(quota_bytes))
    for path in backend.removed_temporaries:
        log.warn("removed a left-over file", path=path)
    if is_new:
        if backend.marks.consistent_index:
            raise FatalError(
                f"{backend_path!r} holds applied entries but {wal_dir!r} holds no log: the "
                "write-ahead log is missing. Put it back, or restore this member from a snapshot"
            )
        return _found(fs, wal_dir, founding, snapshotter, backend, log, segment_bytes)
    return _reopen(fs, snap_dir, wal_dir, founding, snapshotter, backend, log, segment_bytes)


def defragment_if_worth_it(backend: FileBackend, threshold_bytes: int, log: Logger) -> None:
    """At the start, when nobody waits yet and at least so much would be freed
    (`--bootstrap-defrag-threshold-megabytes`)."""
    sizes = {
        "current_db_size_bytes": backend.size_bytes,
        "current_db_size_in_use_bytes": backend.size_in_use_bytes,
        "defrag_threshold_bytes": threshold_bytes,
    }
    if backend.size_bytes - backend.size_in_use_bytes < threshold_bytes:
        log.info("Skipping defragmentation", **sizes)
        return
    log.info("starting defragment", **sizes)
    job = backend.begin_defragment()
    assert job is not None, "nothing else is under way at the start"
    job.run(NO_GRANT)
    outcome, close = backend.finish_defragment(job)
    close.run(NO_GRANT)
    if outcome.failure:
        log.warn("failed to defragment", error=outcome.failure)
        return
    log.info(
        "finished defragment",
        size_before=outcome.size_bytes_before,
        size_after=outcome.size_bytes_after,
    )


def map_bytes(quota_bytes: int) -> int:
    """Address space for the backend: twice the quota, so that a flush never meets its end."""
    return max(BACKEND_MAP_BYTES_MIN, 2 * max(quota_bytes, 0) + BACKEND_HEADROOM_BYTES)


def _found(
    fs: FileSystem,
    wal_dir: str,
    founding: Founding,
    snapshotter: Snapshotter,
    backend: FileBackend,
    log: Logger,
    segment_bytes: int,
) -> Recovered:
    """A new cluster's log begins with one conf change per member (spec/raft-wire.md §4.1)."""
    founding.validate()
    if founding.join is not None:
        return _join(fs, wal_dir, founding.join(), snapshotter, backend, log, segment_bytes)
    number = member_id(founding.peer_urls, founding.token)
    if founding.check is not None:
        founding.check(number)
    cluster = cluster_id([member.id for member in founding.members()])
    metadata = encode_metadata(WalMetadata(number, cluster))
    wal = Wal.create(fs, wal_dir, metadata, segment_bytes=segment_bytes, log=log)
    hard_state, entries = _first_entries(founding)
    wal.save(hard_state, entries)
    log.info("founded a cluster", cluster_id=f"{cluster:x}", local_member_id=f"{number:x}")
    storage = MemoryStorage(hard_state=hard_state, entries=entries)
    return Recovered(number, cluster, wal, snapshotter, backend, storage, 0, 0)


def _join(
    fs: FileSystem,
    wal_dir: str,
    joined: Joined,
    snapshotter: Snapshotter,
    backend: FileBackend,
    log: Logger,
    segment_bytes: int,
) -> Recovered:
    """An empty log: the leader sends everything (spec/cluster.md §2.2)."""
    metadata = WalMetadata(joined.member_id, joined.cluster_id)
    wal = Wal.create(fs, wal_dir, encode_metadata(metadata), segment_bytes=segment_bytes, log=log)
    log.info(
        "joining a cluster",
        cluster_id=f"{joined.cluster_id:x}",
        local_member_id=f"{joined.member_id:x}",
    )
    return Recovered(
        joined.member_id,
        joined.cluster_id,
        wal,
        snapshotter,
        backend,
        MemoryStorage(),
        0,
        0,
        joined.members,
    )


def _first_entries(founding: Founding) -> tuple[HardState, list[Entry]]:
    """The same on every founding member (spec/cluster.md §2.1)."""
    entries = []
    for index, member in enumerate(founding.members(), 1):
        change = ConfChange(0, ConfChangeType.ADD_NODE, member.id, encode_conf_context(member))
        entries.append(Entry(index, 1, EntryType.CONF_CHANGE, encode_conf_change(change)))
    return HardState(1, 0, len(entries)), entries


def _reopen(
    fs: FileSystem,
    snap_dir: str,
    wal_dir: str,
    founding: Founding,
    snapshotter: Snapshotter,
    backend: FileBackend,
    log: Logger,
    segment_bytes: int,
) -> Recovered:
    point = open_at_newest(fs, wal_dir, snapshotter, segment_bytes=segment_bytes, log=log)
    metadata = decode_metadata(point.contents.metadata)
    known = _finish_founding(point, metadata.node_id, founding)
    snapshot_index = point.snapshot.index if point.snapshot else 0
    received = os.path.join(snap_dir, snapshot_db_name(snapshot_index))
    if backend.marks.consistent_index < snapshot_index and fs.exists(received):
        # Killed between vouching for the leader's snapshot and installing it.
        log.info("installing a received database", path=received)
        backend.adopt(received).run(NO_GRANT)
    applied = backend.marks.consistent_index
    if applied < snapshot_index:
        raise FatalError(
            f"the backend (index {applied}) does not match with snapshot (index {snapshot_index}): "
            "the backend's file was lost or replaced. Restore this member from a snapshot"
        )
    entries = point.contents.entries
    last = entries[-1].index if entries else snapshot_index
    if applied > last:
        raise FatalError(
            f"the backend has applied entry {applied}, but the log ends at {last}: the write-ahead "
            "log was damaged or replaced. Restore this member from a snapshot"
        )
    found = point.contents.hard_state
    hard_state = HardState(found.term, found.vote, max(found.commit, applied))
    conf_state = _conf_state(backend, point.snapshot)
    if founding.is_forced:
        log.warn("forcing a new cluster of this member alone", commit_index=hard_state.commit)
        hard_state, entries, new = stand_alone(
            metadata.node_id, hard_state, entries, conf_state, applied
        )
        point.wal.save(hard_state, new)
    storage = MemoryStorage(
        snapshot=point.snapshot or Snapshot(0, 0, ConfState()),
        hard_state=hard_state,
        entries=entries,
        conf_state=conf_state,
    )
    log.info("the server is already initialized as member before, starting as etcd member...")
    log.info(
        "restarting local member",
        cluster_id=f"{metadata.cluster_id:x}",
        local_member_id=f"{metadata.node_id:x}",
        commit_index=hard_state.commit,
        applied_index=applied,
        snapshot_index=snapshot_index,
    )
    return Recovered(
        metadata.node_id,
        metadata.cluster_id,
        point.wal,
        snapshotter,
        backend,
        storage,
        applied,
        snapshot_index,
        known,
    )


def _finish_founding(point: StartingPoint, number: int, founding: Founding) -> tuple[Member, ...]:
    """A crash while the cluster was founded can leave a log that holds only its metadata; so can
    one before the leader of a joined cluster has sent anything. Returns who is known in it."""
    contents = point.contents
    if point.snapshot or contents.entries:
        return ()
    founding.validate()
    if founding.join is not None:
        return founding.join().members
    if contents.hard_state != HardState():
        return ()
    if number != member_id(founding.peer_urls, founding.token):
        raise FatalError(
            "the log is empty and belongs to a member with other peer URLs or another cluster "
            "token: remove the data directory, or start with the flags it was founded with"
        )
    contents.hard_state, contents.entries = _first_entries(founding)
    point.wal.save(contents.hard_state, contents.entries)
    return ()


def _conf_state(backend: FileBackend, snapshot: Snapshot | None) -> ConfState:
    """The configuration at the applied index."""
    if backend.marks.conf_state:
        return ConfState(**decode_conf_state(backend.marks.conf_state))
    return snapshot.conf_state if snapshot else ConfState()


def rebuild(
    backend: FileBackend,
    auth: AuthStore,
    *,
    ttl_min_seconds: int,
    has_checkpoints: bool,
    learners_max: int,
) -> State:
    """The state machines as of the backend's applied index."""
    lessor = Lessor(ttl_min=ttl_min_seconds, checkpoints=has_checkpoints)
    lessor.restore(backend.items("lease"))
    store = Store(backend, lessor)
    interrupted = store.restore()
    alarms = Alarms(backend)
    alarms.restore()
    membership = Membership(backend, learners_max)
    membership.restore()
    auth.restore()
    return State(store, lessor, alarms, membership, auth, interrupted)
