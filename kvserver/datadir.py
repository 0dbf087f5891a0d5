"""The data directory: its layout, its rights, its lock, its format number (spec/storage.md §1).

    <data-dir>/                 0700
      member/                   0700
        keydeck.lock            held while a server uses the directory; contains its pid
        keydeck.format          the number of the on-disk format, as text
        snap/  db               the LMDB database (kvserver/mvcc/backend)
               *.snap *.snap.db kvserver/snap
        wal/   *.wal            kvserver/wal; --wal-dir replaces it
      fixtures/                 self-signed TLS

Our two files stand inside `member/`, where etcd does not look; the log is locked as etcd locks
it, so neither server starts on a directory that the other one is using.

Format numbers: 1 = everything above, the log and snapshot files in etcd's own formats, LMDB
tables as in spec/storage.md §4.1. A directory without a number but with data was written by
something else and is refused; a higher number was written by a newer Keydeck and is refused.

Rights are enforced, not only set: whatever others could read is closed to them at start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from kvserver.errors import FatalError
from kvserver.fs import DIRECTORY_MODE, FILE_MODE, FileSystem
from kvserver.logs import NULL_LOGGER, Logger

FORMAT = 1
LOCK_NAME = "keydeck.lock"
FORMAT_NAME = "keydeck.format"
KNOWN_NAMES = frozenset({"member", "fixtures"})
BBOLT_MAGIC = (0xED0CDAED).to_bytes(4, "little")
BBOLT_MAGIC_OFFSET = 16
FORMAT_FILE_BYTES_MAX = 32


class DataDirError(FatalError):
    """The directory cannot be used; the message says what to do."""


class DataDirLocked(DataDirError):
    """Another server uses the directory."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """Where things are."""

    root: str
    wal: str

    @property
    def member(self) -> str:
        return os.path.join(self.root, "member")

    @property
    def snap(self) -> str:
        return os.path.join(self.member, "snap")

    @property
    def database(self) -> str:
        return os.path.join(self.snap, "db")

    @property
    def fixtures(self) -> str:
        return os.path.join(self.root, "fixtures")

    @classmethod
    def at(cls, root: str, wal_dir: str = "") -> DataDir:
        return cls(root, wal_dir or os.path.join(root, "member", "wal"))


class DataDirLock:
    """Held for the life of the process, or until `release`."""

    def __init__(self, fs: FileSystem, handle: int) -> None:
        self._fs = fs
        self._handle = handle

    def release(self) -> None:
        self._fs.close(self._handle)


def prepare(fs: FileSystem, layout: DataDir, log: Logger = NULL_LOGGER) -> DataDirLock:
    """Make or check the directory, lock it, check its format, close it to others, clean up.

    The log's own directory is not made here: `Wal.create` makes it whole. Raises `DataDirError`.
    """
    try:
        _make_directories(fs, layout)
        lock = _lock(fs, layout)
    except OSError as error:
        raise DataDirError(
            f"cannot access data directory: mkdir {layout.root}: "
            f"{(error.strerror or str(error)).lower()}. The server's user must own it and be able "
            "to write to it"
        ) from error
    try:
        _look_around(fs, layout, log)
        _check_format(fs, layout)
        _close_to_others(fs, layout, log)
        remove_leftovers(fs, layout, log)
    except BaseException as error:
        lock.release()
        if isinstance(error, OSError):
            raise DataDirError(f"cannot use {layout.root!r}: {error}") from error
        raise
    return lock


def _make_directories(fs: FileSystem, layout: DataDir) -> None:
    for directory in (layout.root, layout.member, layout.snap):
        if not fs.is_dir(directory):
            _make_dirs(fs, directory)
    parent = os.path.dirname(layout.wal.rstrip(os.sep))
    if parent and not fs.is_dir(parent):
        _make_dirs(fs, parent)


def _make_dirs(fs: FileSystem, path: str) -> None:
    parent = os.path.dirname(os.path.abspath(path))
    if not fs.is_dir(parent):
        _make_dirs(fs, parent)
    fs.make_dir(path)
    fs.sync_dir(parent)


def _lock(fs: FileSystem, layout: DataDir) -> DataDirLock:
    path = os.path.join(layout.member, LOCK_NAME)
    try:
        handle = fs.create(path)
    except FileExistsError:
        handle = fs.open(path)
    if not fs.lock(handle):
        fs.close(handle)
        pid = fs.read_file(path, FORMAT_FILE_BYTES_MAX).decode("ascii", "replace").strip()
        raise DataDirLocked(
            f"the data directory {layout.root!r} is in use by another server"
            f"{f' (pid {pid})' if pid else ''}: stop it first, or choose another --data-dir"
        )
    fs.truncate(handle, 0)
    fs.write(handle, f"{os.getpid()}\n".encode(), 0, sync=False)
    return DataDirLock(fs, handle)


def _look_around(fs: FileSystem, layout: DataDir, log: Logger) -> None:
    names = fs.listdir(layout.root)
    if "proxy" in names:
        raise DataDirError("invalid datadir; both member and proxy directories exist")
    for name in names:
        if name not in KNOWN_NAMES:
            log.warn("found invalid file under data directory", filename=name, data_dir=layout.root)


def _check_format(fs: FileSystem, layout: DataDir) -> None:
    path = os.path.join(layout.member, FORMAT_NAME)
    if not fs.exists(path):
        _refuse_foreign(fs, layout)
        _write_format(fs, path)
        return
    text = fs.read_file(path, FORMAT_FILE_BYTES_MAX).decode("ascii", "replace").strip()
    if not text.isdigit():
        raise DataDirError(f"{path!r} should hold a format number, not {text!r}")
    if int(text) > FORMAT:
        raise DataDirError(
            f"the data directory {layout.root!r} has format {text}; this Keydeck knows up to "
            f"{FORMAT}. Start it with the newer Keydeck that wrote it"
        )


def _refuse_foreign(fs: FileSystem, layout: DataDir) -> None:
    """Data without our number is somebody else's."""
    if not fs.exists(layout.database):
        if fs.is_dir(layout.wal) and any(n.endswith(".wal") for n in fs.listdir(layout.wal)):
            raise DataDirError(
                f"the log in {layout.wal!r} belongs to no Keydeck data directory: give the "
                "--data-dir it was used with, or an empty --wal-dir"
            )
        return
    head = fs.read_file(layout.database, BBOLT_MAGIC_OFFSET + len(BBOLT_MAGIC))
    if head[BBOLT_MAGIC_OFFSET:] == BBOLT_MAGIC:
        raise DataDirError(
            f"the data directory {layout.root!r} was written by etcd. Save a snapshot of it with "
            "`etcdctl snapshot save` and restore that with `kvutl snapshot restore` into an empty "
            "directory, or let this member join the running cluster with an empty directory"
        )
    raise DataDirError(
        f"{layout.database!r} exists, but {FORMAT_NAME!r} is missing beside it: part of this data "
        "directory was removed. Restore it, or start with an empty directory"
    )


def _write_format(fs: FileSystem, path: str) -> None:
    partial = path + ".tmp"
    if fs.exists(partial):
        fs.unlink(partial)
    handle = fs.create(partial)
    try:
        fs.write(handle, f"{FORMAT}\n".encode(), 0, sync=False)
        fs.sync(handle)
    finally:
        fs.close(handle)
    fs.rename(partial, path)
    fs.sync_dir(os.path.dirname(path))


def _close_to_others(fs: FileSystem, layout: DataDir, log: Logger) -> None:
    directories = [layout.root, layout.member, layout.snap, layout.wal]
    for directory in directories:
        if not fs.is_dir(directory):
            continue
        _restrict(fs, directory, DIRECTORY_MODE, log)
        if directory == layout.root:
            continue
        for name in fs.listdir(directory):
            path = os.path.join(directory, name)
            if not fs.is_dir(path):
                _restrict(fs, path, FILE_MODE, log)


def _restrict(fs: FileSystem, path: str, mode: int, log: Logger) -> None:
    found = fs.mode(path)
    if found & ~mode & 0o777:
        fs.set_mode(path, mode)
        log.warn("closed a path to other users", path=path, mode=f"{found:04o}", now=f"{mode:04o}")


def remove_leftovers(fs: FileSystem, layout: DataDir, log: Logger = NULL_LOGGER) -> list[str]:
    """Delete what an interrupted defragmentation, receipt or creation left; returns the paths."""
    removed = []
    for name in fs.listdir(layout.snap):
        if name.startswith(("db.tmp.", "tmp")):
            path = os.path.join(layout.snap, name)
            fs.unlink(path)
            removed.append(path)
    half_made = layout.wal.rstrip(os.sep) + ".tmp"
    if fs.is_dir(half_made):
        fs.remove_tree(half_made)
        removed.append(half_made)
    for path in removed:
        log.info("removed a leftover of an interrupted operation", path=path)
    return removed
