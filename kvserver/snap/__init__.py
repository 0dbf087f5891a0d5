"""Snapshot files: the marks up to which the log is no longer needed (spec/storage.md §3).

`<term %016x>-<index %016x>.snap` holds protobuf {1: crc, 2: data}; crc is the CRC-32C of data,
data a marshalled raftpb.Snapshot. It carries raft metadata and the membership as JSON, never keys.

A file is written as `tmp-<name>`, synced, renamed, and its directory synced; so a `.snap` name
means whole content, unless the disk lies. One that does not decode is renamed `.broken` and an
older one is used. A file counts only if the log has a matching snapshot record with an index the
log knows to be committed: killed between the two, the file is ignored.

`<index %016x>.snap.db` is a database received from the leader and not yet swapped in; naming and
purging it belong here, its content does not.
"""

from kvserver.snap.newest import StartingPoint, open_at_newest
from kvserver.snap.snapshotter import SnapshotFile, Snapshotter, snapshot_db_name

__all__ = ["SnapshotFile", "Snapshotter", "StartingPoint", "open_at_newest", "snapshot_db_name"]
