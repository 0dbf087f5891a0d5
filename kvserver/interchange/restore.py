"""A snapshot becomes the data directory of a member of a new cluster (spec/storage.md §4.6,
spec/bbolt.md §3.5).

Keys, revisions, leases, users, roles and alarms pass as they are. Membership, applied index, term
and configuration are the new cluster's: its log holds one conf change per member, all committed,
and a raft snapshot at the last of them. All members are restored from the same file, so that their
HashKV agree.

Everything is built in `<data-dir>/restoring` and its `member` renamed in place at the end: a
restore that was interrupted leaves nothing that a server takes for a data directory. A log
directory of its own is complete before that, and a server that finds nothing beside it refuses it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from kvserver.datadir import DataDir, prepare
from kvserver.errors import KeydeckError
from kvserver.fs import FileSystem
from kvserver.interchange.digest import SnapshotFile, open_snapshot_file
from kvserver.interchange.importer import Bump, Importer
from kvserver.limits import BACKEND_HEADROOM_BYTES, BACKEND_MAP_BYTES_MIN
from kvserver.logs import NULL_LOGGER, Logger
from kvserver.membership import Member, Membership, cluster_id, member_id
from kvserver.membership.codec import encode_conf_context, encode_conf_state, encode_member
from kvserver.membership.ids import format_id
from kvserver.membership.legacy_image import encode_legacy_image
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.mvcc.backend.tables import MEMBERS
from kvserver.raft import ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState
from kvserver.raft import Snapshot as RaftSnapshot
from kvserver.raft.codec import encode_conf_change
from kvserver.snap import Snapshotter
from kvserver.wal import Wal, WalMetadata, encode_metadata

STAGING_NAME = "restoring"
FIRST_TERM = 1


class RestoreRefused(KeydeckError):
    """The target cannot be used; nothing was changed."""


@dataclass(frozen=True, slots=True)
class NewCluster:
    """The cluster that begins with the snapshot, and which of its members this is."""

    name: str
    peer_urls: Mapping[str, tuple[str, ...]]
    """By member name; `name` is one of them."""
    token: str

    def members(self) -> list[Member]:
        """Ascending ids: the order of their conf changes (R4)."""
        found = [Member(member_id(u, self.token), u, n) for n, u in self.peer_urls.items()]
        return sorted(found, key=lambda member: member.id)

    @property
    def local_id(self) -> int:
        return member_id(self.peer_urls[self.name], self.token)


def restore(
    fs: FileSystem,
    snapshot_path: str,
    target: DataDir,
    cluster: NewCluster,
    *,
    skip_hash_check: bool = False,
    bump: Bump | None = None,
    log: Logger = NULL_LOGGER,
) -> None:
    """Raises `RestoreRefused`, `ImageError` for a file that is no sound snapshot, or `OSError`;
    then the target is as it was before."""
    refuse_used_target(fs, target)
    with open_snapshot_file(snapshot_path) as file, _staging(fs, target) as staging:
        if not skip_hash_check:
            file.verify_digest()
        lock = prepare(fs, staging, log)
        try:
            snapshot = _fill_backend(staging, file, cluster, bump)
            _found_log(fs, staging, cluster, snapshot)
        finally:
            lock.release()


def refuse_used_target(fs: FileSystem, target: DataDir) -> None:
    """etcd's texts; an empty directory may stand there, a volume's mount point does."""
    if not _is_free(fs, target.root):
        raise RestoreRefused(f'data-dir "{target.root}" not empty or could not be read')
    if _has_own_log_directory(target) and not _is_free(fs, target.wal):
        raise RestoreRefused(f'wal-dir "{target.wal}" not empty or could not be read')


def _is_free(fs: FileSystem, path: str) -> bool:
    return not fs.exists(path) or (fs.is_dir(path) and not fs.listdir(path))


def _has_own_log_directory(target: DataDir) -> bool:
    return target.wal != DataDir.at(target.root).wal


@contextmanager
def _staging(fs: FileSystem, target: DataDir) -> Iterator[DataDir]:
    """Where to build. What was built moves into place at the end, or goes again."""
    root = os.path.join(target.root, STAGING_NAME)
    own_wal = target.wal if _has_own_log_directory(target) else ""
    existed = {path: fs.exists(path) for path in (target.root, target.wal)}
    staging = DataDir.at(root, own_wal)
    try:
        yield staging
        fs.rename(staging.member, target.member)
    except BaseException:
        _remove(fs, root)
        if own_wal:
            _remove(fs, target.wal)
            if existed[target.wal]:
                fs.make_dir(target.wal)
        if not existed[target.root]:
            _remove(fs, target.root)
        raise
    fs.remove_tree(root)
    fs.sync_dir(target.root)


def _remove(fs: FileSystem, path: str) -> None:
    if fs.exists(path):
        fs.remove_tree(path)


def _fill_backend(
    place: DataDir, file: SnapshotFile, cluster: NewCluster, bump: Bump | None
) -> RaftSnapshot:
    """The tables, durable; returns the raft snapshot that stands for them."""
    members = cluster.members()
    index = len(members)
    conf_state = ConfState(voters=tuple(member.id for member in members))
    map_bytes = max(BACKEND_MAP_BYTES_MIN, 2 * file.image.size_bytes + BACKEND_HEADROOM_BYTES)
    backend = LmdbBackend(place.database, map_bytes)
    try:
        importer = Importer(backend)
        importer.run(file.image, bump)
        for member in members:
            backend.put(MEMBERS, format_id(member.id).encode(), encode_member(member))
        backend.commit_marks(index, FIRST_TERM, encode_conf_state(conf_state))
        importer.flush()
        membership = Membership(backend)
        membership.restore()
        return RaftSnapshot(index, FIRST_TERM, conf_state, encode_legacy_image(membership))
    finally:
        backend.close()


def _found_log(fs: FileSystem, place: DataDir, cluster: NewCluster, snapshot: RaftSnapshot) -> None:
    """A log in which the members were added one by one, and the snapshot after them (R4)."""
    members = cluster.members()
    ids = [member.id for member in members]
    metadata = WalMetadata(cluster.local_id, cluster_id(ids))
    wal = Wal.create(fs, place.wal, encode_metadata(metadata))
    try:
        wal.save(
            HardState(FIRST_TERM, ids[0], snapshot.index),
            [
                Entry(number, FIRST_TERM, EntryType.CONF_CHANGE, _added(member))
                for number, member in enumerate(members, 1)
            ],
        )
        Snapshotter(fs, place.snap).save(snapshot)
        wal.save_snapshot(snapshot.index, snapshot.term, snapshot.conf_state)
    finally:
        wal.close()


def _added(member: Member) -> bytes:
    context = encode_conf_context(member)
    return encode_conf_change(ConfChange(0, ConfChangeType.ADD_NODE, member.id, context))
