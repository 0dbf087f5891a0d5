"""The directory of saved snapshots: `<directory>/<cluster>/<file>`. No Django in here.

A file is written beside its name, synced, verified, and only then given its name: what stands
there under a snapshot's name is one. Files and directories are the console's alone (0600, 0700):
a snapshot holds every value and the hashes of passwords.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

PART = ".part"
DIGEST_BYTES = hashlib.sha256().digest_size
READ_BYTES = 1024 * 1024
SPARE_BYTES = 64 * 1024 * 1024
"""Left free on the disk: the console's own database may be on it too."""


class ArchiveError(Exception):
    """A file that could not be written or is not what it should be; the text says why."""


@dataclass(frozen=True, slots=True)
class Archive:
    directory: Path

    def path(self, file: str) -> Path:
        """Where the file is. ArchiveError for a name that leads out of the directory."""
        found = (self.directory / file).resolve()
        if not found.is_relative_to(self.directory.resolve()):
            raise ArchiveError(f"{file!r} is not in the snapshot directory")
        return found

    def free_bytes(self) -> int:
        """On the disk the directory is on, or will be on."""
        there = self.directory
        while not there.exists():
            there = there.parent
        return shutil.disk_usage(there).free

    def check_space(self, wanted_bytes: int) -> None:
        free = self.free_bytes()
        if free < wanted_bytes + SPARE_BYTES:
            raise ArchiveError(
                f"the snapshot needs {wanted_bytes} bytes and {free} are free "
                f"in the snapshot directory"
            )

    def write(self, file: str, chunks: Iterable[bytes]) -> Path:
        """Write `<file>.part` and sync it."""
        part = self.path(file + PART)
        try:
            part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as out:
                for chunk in chunks:
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            raise ArchiveError(f"{part.name}: {error.strerror or error}") from None
        return part

    def give_name(self, part: Path, file: str) -> Path:
        path = self.path(file)
        try:
            os.rename(part, path)
            sync_directory(path.parent)
        except OSError as error:
            raise ArchiveError(f"{path.name}: {error.strerror or error}") from None
        return path

    def remove(self, file: str) -> bool:
        """False when it was gone before."""
        try:
            self.path(file).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ArchiveError(f"{file}: {error.strerror or error}") from None
        return True

    def discard(self, file: str) -> None:
        """What is left of a snapshot that was not finished."""
        self.path(file + PART).unlink(missing_ok=True)

    def has(self, file: str) -> bool:
        return self.path(file).is_file()


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            yield chunk


@dataclass(frozen=True, slots=True)
class Kept:
    """A verified snapshot as retention sees it."""

    id: int
    taken_at: datetime


def to_remove(kept: list[Kept], keep_count: int, keep_days: int, now: datetime) -> list[int]:
    """Beyond the newest `keep_count`, or older than `keep_days` (0: any age). The newest one
    stays whatever its age: the last good snapshot is never removed."""
    newest_first = sorted(kept, key=lambda one: (one.taken_at, one.id), reverse=True)
    limit = now - timedelta(days=keep_days) if keep_days else None
    return [
        one.id
        for place, one in enumerate(newest_first)
        if place and (place >= max(1, keep_count) or (limit is not None and one.taken_at < limit))
    ]
