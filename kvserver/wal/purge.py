"""Deleting segments that nothing needs any more (spec/storage.md §3, purge)."""

from __future__ import annotations

import os

from kvserver.fs import FileSystem
from kvserver.wal.segment import list_segments


def purge_segments(fs: FileSystem, directory: str, keep: int) -> list[str]:
    """Delete the oldest segments beyond the `keep` newest, stopping at the first that is locked
    (not yet released). `keep` 0 keeps all. Returns the paths deleted."""
    if keep == 0:
        return []
    segments, _ = list_segments(fs, directory)
    deleted = []
    for name in segments[: max(len(segments) - keep, 0)]:
        path = os.path.join(directory, str(name))
        handle = fs.open(path)
        try:
            if not fs.lock(handle):
                break
            fs.unlink(path)
            deleted.append(path)
        finally:
            fs.close(handle)
    if deleted:
        fs.sync_dir(directory)
    return deleted
