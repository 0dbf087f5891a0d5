"""Where a restart begins: the newest snapshot that the log vouches for, and the log after it."""

from __future__ import annotations

from dataclasses import dataclass

from kvserver.fs import FileSystem
from kvserver.limits import WAL_SEGMENT_BYTES
from kvserver.logs import NULL_LOGGER, Logger
from kvserver.raft.types import Snapshot
from kvserver.snap.snapshotter import Snapshotter
from kvserver.wal import SnapshotMismatch, SnapshotNotFound, Wal, WalContents, WalFileNotFound


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """The opened log, what it says after the snapshot, and the snapshot (None: from the start)."""

    wal: Wal
    contents: WalContents
    snapshot: Snapshot | None


def open_at_newest(
    fs: FileSystem,
    wal_directory: str,
    snapshotter: Snapshotter,
    *,
    segment_bytes: int = WAL_SEGMENT_BYTES,
    log: Logger = NULL_LOGGER,
) -> StartingPoint:
    """Open the log at the newest snapshot file that has its record in the log, at or below the
    last committed index (spec/storage.md §1); at (0, 0) if none has.

    Raises `WalError`. A file without a record is passed over: the member was killed between
    writing the two.
    """

    def opened(at: tuple[int, int]) -> tuple[Wal, WalContents]:
        wal = Wal.open(fs, wal_directory, at, segment_bytes=segment_bytes, log=log)
        try:
            return wal, wal.read_all()
        except BaseException:
            wal.close()
            raise

    for snapshot in snapshotter.newest_first():
        try:
            wal, contents = opened((snapshot.index, snapshot.term))
        except (SnapshotNotFound, SnapshotMismatch, WalFileNotFound) as reason:
            log.warn("snapshot is not used", index=snapshot.index, error=str(reason))
            continue
        if contents.hard_state.commit >= snapshot.index:
            return StartingPoint(wal, contents, snapshot)
        wal.close()
        log.warn("snapshot is not used", index=snapshot.index, error="it is not yet committed")
    wal, contents = opened((0, 0))
    return StartingPoint(wal, contents, None)
