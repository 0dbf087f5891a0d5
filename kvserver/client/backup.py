"""Snapshot files, ours and a real etcd's, for programs that are clients: the thin door to
`interchange`, which knows the format. Not imported by the package itself: it needs no network,
and a client that opens no file should not load it.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvserver.interchange.bbolt import ImageError
from kvserver.interchange.digest import open_snapshot_file
from kvserver.interchange.status import image_status


class BackupError(Exception):
    """A file that is no sound snapshot; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class BackupStatus:
    """What `etcdutl snapshot status` tells of a file."""

    hash: int
    revision: int
    total_keys: int
    total_bytes: int
    version: str


def backup_status(path: str) -> BackupStatus:
    """Verify the digest, then read every page. Raises BackupError, and OSError of the disk."""
    try:
        with open_snapshot_file(path) as file:
            file.verify_digest()
            found = image_status(file.image)
    except ImageError as error:
        raise BackupError(str(error)) from None
    return BackupStatus(
        found.hash, found.revision, found.total_keys, found.total_bytes, found.version
    )
