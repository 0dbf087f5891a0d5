"""The two files of a database on its way in (spec/peer.md §4.2): the image as it comes, and the
backend that is made of it, which gets its name when it is complete.

Whatever comes to nothing is removed; what a crash leaves begins with `tmp`, and the next start
removes it (datadir.py). All work here is a thread's, that of `SnapshotReceiver`, but for
`SpooledImage()` itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from kvserver.fs import FileSystem
from kvserver.mvcc.backend.api import FileBackend
from kvserver.mvcc.backend.environment import LOCK
from kvserver.snap.snapshotter import snapshot_db_name

TEMPORARY_PREFIX = "tmp-received-"
OpenBackend = Callable[[str, int], FileBackend]
"""(path, bytes of address space)."""


class SpooledImage:
    """What has come of an image, in a file that does not outlive its conversion."""

    def __init__(self, fs: FileSystem, directory: str, number: int) -> None:
        """`number` tells it from others of this process."""
        self.size_bytes = 0
        self._fs = fs
        self._path = os.path.join(directory, f"{TEMPORARY_PREFIX}image-{number}")
        self.handle = fs.create(self._path)

    def write(self, data: bytes) -> None:
        self._fs.write(self.handle, data, self.size_bytes, sync=False)
        self.size_bytes += len(data)

    def remove(self) -> None:
        self._fs.close(self.handle)
        self._fs.unlink(self._path)


class ReceivedBackend:
    """The backend under its first name, until `give_name` or `discard`."""

    def __init__(
        self, fs: FileSystem, directory: str, index: int, open_backend: OpenBackend
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._open_backend = open_backend
        self._building = os.path.join(directory, f"{TEMPORARY_PREFIX}{index:016x}")
        self._final = os.path.join(directory, snapshot_db_name(index))
        self._backend: FileBackend | None = None

    def open(self, map_bytes: int) -> FileBackend:
        self._remove(self._building, self._building + LOCK)
        self._backend = self._open_backend(self._building, map_bytes)
        return self._backend

    def give_name(self) -> None:
        """The file is complete and closed: raft may hear of it from here on."""
        self._close()
        self._remove(self._building + LOCK)
        # In one step: an equal one may be waiting there to be installed at this very moment.
        self._fs.rename(self._building, self._final)
        self._fs.sync_dir(self._directory)

    def discard(self) -> None:
        self._close()
        self._remove(self._building, self._building + LOCK)

    def _close(self) -> None:
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def _remove(self, *paths: str) -> None:
        for path in paths:
            if self._fs.exists(path):
                self._fs.unlink(path)
