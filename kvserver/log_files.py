"""Log files that are appended to, and what becomes of them when they have grown
(`--log-rotation-config-json`, spec/config.md §6).

A file that would grow beyond `bytes_max` is renamed to `name-<time>.ext` and begun anew. Renamed
ones go by number and by age, and are compressed beside the server if that is wanted. Trouble with
any of it never ends the server, and never loses a line that the disk would have taken: where a
file cannot be renamed it simply grows.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import threading
from dataclasses import dataclass

from kvserver.clock import Clock, SystemClock, local, utc

_STAMP = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}"
_STAMP_FORMAT = "%Y-%m-%dT%H-%M-%S.%f"
SECONDS_PER_DAY = 86_400
PACKED = ".gz"


@dataclass(frozen=True, slots=True)
class Rotation:
    """When to rotate and what to keep; 0 is for ever, and never by size."""

    bytes_max: int = 0
    days_max: int = 0
    backups_max: int = 0
    is_local_time: bool = False
    is_compressed: bool = False


class FileSink:
    """One log file, for its owner only. Safe from any thread."""

    def __init__(
        self, path: str, rotation: Rotation | None = None, clock: Clock | None = None
    ) -> None:
        """Raises OSError for a file that cannot be opened."""
        self._clock = clock or SystemClock()
        self._path = path
        self._rotation = rotation or Rotation()
        self._lock = threading.Lock()
        self._packer: threading.Thread | None = None
        directory, name = os.path.split(path)
        self._directory = directory or "."
        self._stem, self._suffix = os.path.splitext(name)
        self._backup = re.compile(
            re.escape(self._stem) + f"-({_STAMP})" + re.escape(self._suffix) + f"({PACKED})?"
        )
        self._open()

    def write(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace")
        with self._lock:
            most = self._rotation.bytes_max
            if most and self._size and self._size + len(data) > most:
                self._rotate()
            try:
                self._size += os.write(self._descriptor, data)
            except OSError:
                # A full disk must not end the server by way of its log.
                return

    def close(self) -> None:
        os.close(self._descriptor)
        if self._packer is not None:
            self._packer.join()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        former = self._descriptor
        backup = f"{self._stem}-{self._stamp(self._clock.wall())}{self._suffix}"
        try:
            os.rename(self._path, os.path.join(self._directory, backup))
            self._open()
        except OSError:
            # Wherever the open file is called now: lines go on into it.
            self._size = 0
            return
        os.close(former)
        with contextlib.suppress(OSError):
            self._remove_old()
        if self._rotation.is_compressed and (self._packer is None or not self._packer.is_alive()):
            self._packer = threading.Thread(target=self._pack, name="log-packer", daemon=True)
            self._packer.start()

    def _stamp(self, wall_seconds: float) -> str:
        date = local(wall_seconds) if self._rotation.is_local_time else utc(wall_seconds)
        return date.strftime(_STAMP_FORMAT)

    def _backups(self) -> list[tuple[str, str]]:
        """(time, path), the oldest first; other files of that directory are not ours."""
        found = []
        for name in os.listdir(self._directory):
            match = self._backup.fullmatch(name)
            if match is not None:
                found.append((match[1], os.path.join(self._directory, name)))
        return sorted(found)

    def _remove_old(self) -> None:
        rotation, backups = self._rotation, self._backups()
        kept = backups[-rotation.backups_max :] if rotation.backups_max else backups
        if rotation.days_max:
            oldest = self._stamp(self._clock.wall() - rotation.days_max * SECONDS_PER_DAY)
            kept = [backup for backup in kept if backup[0] >= oldest]
        for backup in backups:
            if backup not in kept:
                os.unlink(backup[1])

    def _pack(self) -> None:
        """In a thread of its own: a hundred megabytes take seconds. What is not whole after a kill
        is packed again after the next rotation."""
        for _, path in self._backups():
            if path.endswith(PACKED):
                continue
            partial = f"{path}.partial"
            with contextlib.suppress(OSError):
                with open(path, "rb") as source, open(partial, "wb", opener=_private) as target:
                    with gzip.GzipFile(filename="", mode="wb", fileobj=target) as packed:
                        shutil.copyfileobj(source, packed)
                    target.flush()
                    os.fsync(target.fileno())
                os.rename(partial, path + PACKED)
                os.unlink(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
