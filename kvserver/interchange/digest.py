"""A snapshot as a file: the image, and behind it the SHA-256 of it (spec/bbolt.md F17).

An image is made of pages, so a size of 32 modulo 512 says that the digest is there. A file copied
from a data directory has none, and a tail of unused pages.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from kvserver.interchange.bbolt import ImageError
from kvserver.interchange.reader import Image
from kvserver.limits import SECTOR_BYTES, SNAPSHOT_READ_BYTES

DIGEST_BYTES = hashlib.sha256().digest_size
DATABASE_NAME = "db"
"""What the file is called in the data directory of an etcd, which locks it."""


class SnapshotFile:
    """A file that holds an image, open for reading."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        size = os.fstat(descriptor).st_size
        self.has_digest = size % SECTOR_BYTES == DIGEST_BYTES
        self._image_bytes = size - DIGEST_BYTES if self.has_digest else size
        self.image = Image(descriptor, self._image_bytes)

    def verify_digest(self) -> None:
        """ImageError, in etcd's words, unless the digest is there and right."""
        if not self.has_digest:
            raise ImageError("snapshot missing hash but --skip-hash-check=false")
        found = hashlib.sha256()
        offset = 0
        while offset < self._image_bytes:
            size = min(SNAPSHOT_READ_BYTES, self._image_bytes - offset)
            data = os.pread(self._descriptor, size, offset)
            if not data:
                raise ImageError(f"corrupt image: the file ends at byte {offset}")
            found.update(data)
            offset += len(data)
        expected = os.pread(self._descriptor, DIGEST_BYTES, self._image_bytes)
        if expected != found.digest():
            # The numbers in brackets are how Go prints bytes; scripts look for the words before.
            raise ImageError(
                f"expected sha256 {_numbers(expected)}, got {_numbers(found.digest())}"
            )


def _numbers(data: bytes) -> str:
    return f"[{' '.join(map(str, data))}]"


@contextmanager
def open_snapshot_file(path: str) -> Iterator[SnapshotFile]:
    """Open a snapshot, or the database file of a member that is not running."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.path.basename(path) == DATABASE_NAME:
            _share(path, descriptor)
        yield SnapshotFile(path, descriptor)
    finally:
        os.close(descriptor)


def _share(path: str, descriptor: int) -> None:
    """A running etcd holds its file exclusively; what we read beside it would be torn."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ImageError(
            f"{path!r} is in use by a running member: save a snapshot of it instead"
        ) from None
