"""One directory of snapshot files: save, list, load, purge."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from crc32c import crc32c
from google.protobuf.message import DecodeError

from kvserver import failpoints
from kvserver.fs import FileSystem
from kvserver.logs import NULL_LOGGER, Logger
from kvserver.proto import record_pb2
from kvserver.raft.types import Snapshot
from kvserver.wal.payload import decode_snapshot, encode_snapshot

_SNAP = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")
_SNAP_DB = re.compile(r"([0-9a-f]{16})\.snap\.db")
PARTIAL_PREFIX = "tmp"
"""What a file is called while it is being written; removed at start (kvserver/datadir.py)."""


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A snapshot file by its name."""

    term: int
    index: int

    def __str__(self) -> str:
        return f"{self.term:016x}-{self.index:016x}.snap"


def snapshot_db_name(index: int) -> str:
    """What a database received for the snapshot at `index` is called before it is swapped in."""
    return f"{index:016x}.snap.db"


def encode_file(snapshot: Snapshot) -> bytes:
    data = encode_snapshot(snapshot)
    return record_pb2.SnapshotFile(crc=crc32c(data), data=data).SerializeToString()


def decode_file(content: bytes) -> Snapshot:
    """ValueError, saying why, when the content is not a whole snapshot file."""
    try:
        message = record_pb2.SnapshotFile.FromString(content)
        if not message.data:
            raise ValueError("snap: empty snapshot")
        if crc32c(message.data) != message.crc:
            raise ValueError("snap: crc mismatch")
        return decode_snapshot(message.data)
    except DecodeError as error:
        raise ValueError(f"snap: unreadable snapshot ({error})") from None


class Snapshotter:
    """Owner: whichever thread saves (the flush thread); at start, the main thread."""

    def __init__(self, fs: FileSystem, directory: str, log: Logger = NULL_LOGGER) -> None:
        self._fs = fs
        self._directory = directory
        self._log = log

    def save(self, snapshot: Snapshot) -> str:
        """Write the file of one snapshot, durably; returns its path.

        Only then may the log vouch for it (`Wal.encode_snapshot`). OSError is fatal.
        """
        failpoints.hit("raftBeforeSaveSnap")
        content = encode_file(snapshot)
        name = str(SnapshotFile(snapshot.term, snapshot.index))
        path = os.path.join(self._directory, name)
        partial = os.path.join(self._directory, f"{PARTIAL_PREFIX}-{name}")
        with contextlib.suppress(FileNotFoundError):
            self._fs.unlink(partial)
        handle = self._fs.create(partial)
        try:
            self._fs.write(handle, content, 0, sync=False)
            self._fs.sync(handle)
        finally:
            self._fs.close(handle)
        self._fs.rename(partial, path)
        self._fs.sync_dir(self._directory)
        return path

    def files(self) -> list[SnapshotFile]:
        """Newest first: by term, then index, which is the order of the names."""
        found = [_SNAP.fullmatch(name) for name in self._fs.listdir(self._directory)]
        files = [SnapshotFile(int(match[1], 16), int(match[2], 16)) for match in found if match]
        return sorted(files, key=lambda file: (file.term, file.index), reverse=True)

    def load(self, file: SnapshotFile) -> Snapshot | None:
        """The snapshot in a file; None, and the file set aside, when it is not whole."""
        path = os.path.join(self._directory, str(file))
        try:
            return decode_file(self._fs.read_file(path))
        except ValueError as error:
            self._set_aside(path, str(error))
            return None

    def newest_first(self) -> Iterator[Snapshot]:
        """Every readable snapshot, newest first."""
        for file in self.files():
            snapshot = self.load(file)
            if snapshot is not None:
                yield snapshot

    def _set_aside(self, path: str, why: str) -> None:
        self._log.warn("failed to read a snap file", path=path, error=why)
        self._fs.rename(path, path + ".broken")
        self._log.warn("renamed a corrupted snap file", path=path, copy=path + ".broken")

    def purge(self, keep: int) -> list[str]:
        """Delete `.snap` and `.snap.db` files beyond the `keep` newest of each; 0 keeps all."""
        if keep == 0:
            return []
        doomed = [str(file) for file in self.files()[keep:]]
        databases = [name for name in self._fs.listdir(self._directory) if _SNAP_DB.fullmatch(name)]
        doomed += sorted(databases, reverse=True)[keep:]
        return self._delete(doomed)

    def release_databases(self, index: int) -> list[str]:
        """Delete databases received for snapshots older than `index`: they were swapped in."""
        doomed = []
        for name in self._fs.listdir(self._directory):
            match = _SNAP_DB.fullmatch(name)
            if match and int(match[1], 16) < index:
                doomed.append(name)
        return self._delete(doomed)

    def _delete(self, names: list[str]) -> list[str]:
        paths = [os.path.join(self._directory, name) for name in names]
        for path in paths:
            self._fs.unlink(path)
            self._log.info("purged", path=path)
        return paths
