"""The append thread's side of the log: the only code that writes segments.

Invariants:
- Batches are written in the order they were encoded, each at its own offset.
- When `write` returns from a batch with `must_sync`, that batch *and everything before it* is
  durable. One call writes and syncs, but it syncs only the bytes it is given; so bytes written
  without a sync are remembered and written again, in front of the next batch that syncs.
- After any error nothing is written any more: a sync that failed once proves nothing when it
  succeeds later.
"""

from __future__ import annotations

import contextlib
import os

from kvserver import failpoints
from kvserver.fs import FileSystem
from kvserver.limits import WAL_UNSYNCED_BYTES_MAX
from kvserver.wal.encoder import AppendBatch, Cut
from kvserver.wal.errors import WalLocked, WalWriteFailed
from kvserver.wal.segment import NEXT_NAMES, SegmentName, releasable


class SegmentWriter:
    """Open, locked segments and the one prepared ahead. Owner: the append thread."""

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        held: list[tuple[SegmentName, int]],
        segment_bytes: int,
    ) -> None:
        """`held` are the open segments in order; the last one is appended to."""
        self._fs = fs
        self._directory = directory
        self._held = held
        self._handle = held[-1][1]
        self._segment_bytes = segment_bytes
        self._unsynced = b""
        self._has_failed = False
        self._next: tuple[str, int] | None = None
        self._next_turn = 0

    def write(self, batch: AppendBatch) -> None:
        """Write one batch, durably if it must be; then begin the next segment if it is time."""
        if self._has_failed:
            raise WalWriteFailed("wal: not written, because an earlier write or sync failed")
        if not batch.is_snapshot:
            failpoints.hit("raftBeforeSave")
        try:
            data = batch.data
            if batch.must_sync:
                offset = batch.offset
                if self._unsynced:
                    offset -= len(self._unsynced)
                    data, self._unsynced = self._unsynced + data, b""
                if data:
                    self._fs.write(self._handle, data, offset, sync=True)
            elif data:
                self._write_unsynced(data, batch.offset)
            if batch.cut is not None:
                self._begin_segment(batch.cut, batch.offset + len(batch.data))
        except OSError as error:
            self._has_failed = True
            raise WalWriteFailed(
                f"wal: writing to {self._directory!r} failed: {error}. Nothing was acknowledged "
                "that is not on disk. Check the disk and its free space, then start again."
            ) from error
        failpoints.hit("raftAfterSaveSnap" if batch.is_snapshot else "raftAfterSave")

    def _write_unsynced(self, data: bytes, offset: int) -> None:
        self._fs.write(self._handle, data, offset, sync=False)
        self._unsynced += data
        if len(self._unsynced) > WAL_UNSYNCED_BYTES_MAX:
            self._fs.sync(self._handle)
            self._unsynced = b""

    def _begin_segment(self, cut: Cut, used_bytes: int) -> None:
        """Close the current segment at its used length and go on in the prepared one.

        The name appears only when the head is durable, so a crash leaves either the old segment
        as the last, or the new one with a whole head.
        """
        fs = self._fs
        fs.truncate(self._handle, used_bytes)
        fs.sync(self._handle)
        assert self._next is not None, "prepare_next comes before the first batch"
        path, handle = self._next
        self._next = None
        fs.write(handle, cut.head, 0, sync=False)
        fs.sync(handle)
        fs.rename(path, os.path.join(self._directory, str(cut.name)))
        fs.sync_dir(self._directory)
        self._held.append((cut.name, handle))
        self._handle = handle
        self.prepare_next()

    def prepare_next(self) -> None:
        """Preallocate the next segment, so that a cut does not wait for space."""
        path = os.path.join(self._directory, NEXT_NAMES[self._next_turn])
        self._next_turn ^= 1
        with contextlib.suppress(FileNotFoundError):
            self._fs.unlink(path)
        handle = self._fs.create(path)
        self._next = path, handle
        if not self._fs.lock(handle):
            raise WalLocked(f"wal: {path!r} is locked by another process")
        self._fs.allocate(handle, self._segment_bytes)

    def release_to(self, index: int) -> int:
        """Let go of segments that hold only entries before `index`; how many. Purge may then
        delete them (spec/storage.md §2.2)."""
        count = releasable([name for name, _ in self._held], index)
        for _, handle in self._held[:count]:
            self._fs.close(handle)
        del self._held[:count]
        failpoints.hit("raftAfterWALRelease")
        return count

    def close(self) -> None:
        """Sync what is not yet durable and let go of every file. Once."""
        try:
            if self._unsynced and not self._has_failed:
                self._fs.sync(self._handle)
        finally:
            for _, handle in self._held:
                self._fs.close(handle)
            self._held.clear()
            if self._next is not None:
                path, handle = self._next
                self._next = None
                self._fs.close(handle)
                with contextlib.suppress(OSError):
                    self._fs.unlink(path)
