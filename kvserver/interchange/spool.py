"""One image into a nameless temporary file, in slices the loop can afford.

The size of an image stands in its first page and in the first message of a snapshot, and is known
last; and a slow client must not pin a read transaction. So the image is built into a file first,
in about the time it takes to read the database once, and streamed from there.

Two parties: the loop reads LMDB and builds pages (`step`); a thread writes them (`write`) and later
reads and hashes them (`read`). A page is bytes by then, and the thread makes two long system calls
a megabyte, so neither waits for the other's GIL (see runtime/grant.py for what happens otherwise).
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from typing import Protocol

from kvserver.interchange.tables import View, bucket_slices, storage_version
from kvserver.interchange.writer import ImageWriter
from kvserver.limits import SNAPSHOT_DISK_RESERVE_BYTES

TEMPORARY_PREFIX = "tmp-snapshot-"
"""Where the filesystem cannot do without a name; `datadir.remove_leftovers` knows `tmp*`."""


STEP_RECORDS = 250
"""Pages are built for so many records at a time, a third of a millisecond: a put passes through
the loop three or four times, and each time it waits for a step."""


class ClosableView(View, Protocol):
    def close(self) -> None: ...


class ImageBuilder:
    """Turns a view into pages. Owner: the loop. It closes the view as soon as it is read."""

    def __init__(self, view: ClosableView) -> None:
        self.version = storage_version(view)
        self.metas = b""
        """What belongs at the beginning of the file; complete once `step` has said so."""
        self._view = view
        self._writer = ImageWriter()
        self._steps = self._build()

    def _build(self) -> Iterator[None]:
        writer = self._writer
        for name, slices in bucket_slices(self._view, self.version):
            writer.begin(name)
            for pairs in slices:
                for first in range(0, len(pairs), STEP_RECORDS):
                    writer.add(pairs[first : first + STEP_RECORDS])
                    yield
            writer.end()
        self.metas = writer.finish()

    def step(self) -> bool:
        """One slice, well below a millisecond; whether the image is complete."""
        for _ in self._steps:
            return False
        self.close()
        return True

    @property
    def size_bytes(self) -> int:
        """Of the whole image, once it is complete."""
        return self._writer.size_bytes

    @property
    def waiting_bytes(self) -> int:
        return self._writer.waiting_bytes

    def take(self) -> bytes:
        return self._writer.take()

    def close(self) -> None:
        """Let go of the view. Closing twice is harmless."""
        self._steps = iter(())
        self._view.close()


class SpoolFile:
    """The image's file. Owner: one thread, the same for all calls."""

    def __init__(self, directory: str) -> None:
        self._file = tempfile.TemporaryFile(  # noqa: SIM115  # closed by `close`
            prefix=TEMPORARY_PREFIX, dir=directory, buffering=0
        )
        self._written_bytes = 0
        self._read_bytes = 0
        self._hash = hashlib.sha256()

    def write(self, pages: bytes) -> None:
        """Append. OSError when the disk has no room to spare: a backup must not stop the log."""
        descriptor = self._file.fileno()
        free = os.fstatvfs(descriptor)
        if free.f_bavail * free.f_frsize < len(pages) + SNAPSHOT_DISK_RESERVE_BYTES:
            raise OSError(errno.ENOSPC, "too little space left on the data directory's disk")
        self._write_at(pages, self._written_bytes)
        self._written_bytes += len(pages)

    def complete(self, metas: bytes) -> None:
        self._write_at(metas, 0)

    def _write_at(self, data: bytes, offset: int) -> None:
        # Paced: hundreds of megabytes left to the kernel would be flushed all at once, in front of
        # the log's own syncs.
        written = 0
        while written < len(data):
            rest = memoryview(data)[written:]
            written += os.pwritev(self._file.fileno(), (rest,), offset + written, os.RWF_DSYNC)

    def read(self, size: int) -> bytes:
        """The next bytes, hashed as they go."""
        data = os.pread(self._file.fileno(), size, self._read_bytes)
        self._read_bytes += len(data)
        self._hash.update(data)
        return data

    def digest(self) -> bytes:
        """Of what has been read."""
        return self._hash.digest()

    def close(self) -> None:
        self._file.close()
