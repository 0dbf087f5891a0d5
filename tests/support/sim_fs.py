"""A disk that forgets: `FileSystem` in memory, with a volatile cache and crashes on demand.

What it may do at a crash, chosen by a seed:
- each 512-byte sector written since the last sync is kept or lost on its own (torn, reordered);
- a size that changed since is the old one or the new one;
- each name made, renamed or removed since the directory's last sync is kept or lost on its own.

A `write(sync=True)` makes durable the sectors it touches and the size, *nothing else* of the file.

Faults: `crash_at=k` dies inside the k-th changing call (its effect is in the cache, not on the
disk); `fail_at=k` makes the k-th changing call raise `OSError(fail_errno)` instead.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

SECTOR = 512


class Crash(BaseException):
    """The machine lost power in the middle of a call. Not an Exception: nobody may handle it."""


@dataclass
class Inode:
    live: bytearray = field(default_factory=bytearray)
    disk: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)
    mode: int = 0o600
    locked_by: int | None = None

    def touch(self, start: int, end: int) -> None:
        self.dirty.update(range(start // SECTOR, (end + SECTOR - 1) // SECTOR))

    def flush(self, sectors: set[int]) -> None:
        """Make some sectors, and the size, durable."""
        _resize(self.disk, len(self.live))
        for sector in sectors & self.dirty:
            where = slice(sector * SECTOR, (sector + 1) * SECTOR)
            self.disk[where] = self.live[where]
        self.dirty -= sectors

    def after_crash(self, keep: Callable[[], bool]) -> Inode:
        size = len(self.live) if keep() else len(self.disk)
        content = bytearray(self.disk)
        _resize(content, max(size, len(self.live), len(self.disk)))
        for sector in sorted(self.dirty):
            if keep():
                where = slice(sector * SECTOR, (sector + 1) * SECTOR)
                new = bytes(self.live[where])
                content[where.start : where.start + len(new)] = new
        del content[size:]
        return Inode(bytearray(content), bytearray(content), set(), self.mode)


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _move_tree(directories: dict[str, Directory], source: str, target: str) -> None:
    for path in [p for p in directories if p == source or p.startswith(source + "/")]:
        directories[target + path[len(source) :]] = directories.pop(path)


@dataclass
class Directory:
    live: dict[str, Inode] = field(default_factory=dict)
    disk: dict[str, Inode] = field(default_factory=dict)
    pending: list[tuple[str, str | None, Inode | None]] = field(default_factory=list)
    mode: int = 0o700

    def after_crash(self, keep: Callable[[], bool]) -> dict[str, Inode]:
        names = dict(self.disk)
        for name, gone, inode in self.pending:
            if not keep():
                continue
            if gone is not None:
                names.pop(gone, None)
            if inode is not None:
                names[name] = inode
        return names


class SimFs:
    """Owner: one test. Directories exist durably once made (their making is not what is tested,
    except by rename)."""

    def __init__(
        self,
        *,
        crash_at: int | None = None,
        fail_at: int | None = None,
        fail_errno: int = errno.EIO,
        capacity: int | None = None,
    ) -> None:
        self.calls = 0
        self.trace: list[str] = []
        self.crash_at = crash_at
        self.fail_at = fail_at
        self.fail_errno = fail_errno
        self.capacity = capacity
        self.directories: dict[str, Directory] = {"/": Directory()}
        self._moved: list[tuple[str, str]] = []
        self._handles: dict[int, Inode] = {}
        self._next_handle = 3

    # -- faults

    def _before(self, what: str) -> None:
        self.calls += 1
        self.trace.append(what)
        if self.calls == self.fail_at:
            raise OSError(self.fail_errno, os.strerror(self.fail_errno))

    def _between(self) -> None:
        """After the cache has changed, before the disk has."""
        if self.calls == self.crash_at:
            raise Crash

    def crash(self, seed: int | str) -> SimFs:
        """The disk after a power cut: "all" or "none" of what was not synced, or by chance."""
        rng = random.Random(seed)
        keep: Callable[[], bool] = {
            "all": lambda: True,
            "none": lambda: False,
        }.get(str(seed), lambda: rng.random() < 0.5)
        after = SimFs(capacity=self.capacity)
        after.directories = {}
        survivors: dict[int, Inode] = {}
        for path, directory in sorted(self.directories.items()):
            fresh = Directory(mode=directory.mode)
            for name, inode in sorted(directory.after_crash(keep).items()):
                if id(inode) not in survivors:
                    survivors[id(inode)] = inode.after_crash(keep)
                fresh.live[name] = fresh.disk[name] = survivors[id(inode)]
            after.directories[path] = fresh
        for source, target in reversed(self._moved):
            if target in after.directories and not keep():
                _move_tree(after.directories, target, source)
        return after

    # -- names

    def _split(self, path: str) -> tuple[Directory, str]:
        parent, name = os.path.split(os.path.abspath(path))
        if parent not in self.directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self.directories[parent], name

    def _inode(self, path: str) -> Inode:
        directory, name = self._split(path)
        if name not in directory.live:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return directory.live[name]

    def _handle(self, inode: Inode) -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = inode
        return self._next_handle

    def create(self, path: str) -> int:
        directory, name = self._split(path)
        if name in directory.live:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._before(f"create {name}")
        inode = Inode()
        directory.live[name] = inode
        directory.pending.append((name, None, inode))
        self._between()
        return self._handle(inode)

    def open(self, path: str) -> int:
        return self._handle(self._inode(path))

    def close(self, handle: int) -> None:
        inode = self._handles.pop(handle)
        if inode.locked_by == handle:
            inode.locked_by = None

    def rename(self, source: str, target: str) -> None:
        source, target = os.path.abspath(source), os.path.abspath(target)
        self._before(f"rename {os.path.basename(target)}")
        if source in self.directories:
            self.directories.pop(target, None)
            _move_tree(self.directories, source, target)
            self._moved.append((source, target))
            self._between()
            return
        directory, old = self._split(source)
        other, new = self._split(target)
        assert directory is other, "renames stay within a directory"
        inode = directory.live.pop(old)
        directory.live[new] = inode
        directory.pending.append((new, old, inode))
        self._between()

    def unlink(self, path: str) -> None:
        directory, name = self._split(path)
        self._inode(path)
        self._before(f"unlink {name}")
        del directory.live[name]
        directory.pending.append((name, name, None))
        self._between()

    def exists(self, path: str) -> bool:
        path = os.path.abspath(path)
        if path in self.directories:
            return True
        parent, name = os.path.split(path)
        return parent in self.directories and name in self.directories[parent].live

    def is_dir(self, path: str) -> bool:
        return os.path.abspath(path) in self.directories

    def listdir(self, path: str) -> list[str]:
        path = os.path.abspath(path)
        if path not in self.directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        below = [
            os.path.basename(p)
            for p in self.directories
            if p != path and os.path.dirname(p) == path
        ]
        return sorted([*self.directories[path].live, *below])

    def make_dir(self, path: str) -> None:
        path = os.path.abspath(path)
        if path in self.directories:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if os.path.dirname(path) not in self.directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._before(f"mkdir {os.path.basename(path)}")
        self.directories[path] = Directory()
        self._between()

    def remove_tree(self, path: str) -> None:
        path = os.path.abspath(path)
        self._before(f"rmtree {os.path.basename(path)}")
        for each in [p for p in self.directories if p == path or p.startswith(path + "/")]:
            del self.directories[each]
        self._between()

    def sync_dir(self, path: str) -> None:
        directory = self.directories[os.path.abspath(path)]
        self._before(f"syncdir {os.path.basename(path)}")
        self._between()
        directory.disk = dict(directory.live)
        directory.pending.clear()
        self._moved = [m for m in self._moved if os.path.dirname(m[1]) != os.path.abspath(path)]

    def mode(self, path: str) -> int:
        path = os.path.abspath(path)
        return self.directories[path].mode if path in self.directories else self._inode(path).mode

    def set_mode(self, path: str, mode: int) -> None:
        path = os.path.abspath(path)
        if path in self.directories:
            self.directories[path].mode = mode
        else:
            self._inode(path).mode = mode

    # -- content

    def read_file(self, path: str, size_max: int = -1) -> bytes:
        content = bytes(self._inode(path).live)
        return content if size_max < 0 else content[:size_max]

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return bytes(self._handles[handle].live[offset : offset + size])

    def size(self, handle: int) -> int:
        return len(self._handles[handle].live)

    def write(self, handle: int, data: bytes, offset: int, *, sync: bool) -> None:
        inode = self._handles[handle]
        self._before(f"write {len(data)} at {offset}{' sync' if sync else ''}")
        end = offset + len(data)
        if end > len(inode.live):
            self._take_space(end - len(inode.live))
            _resize(inode.live, end)
        inode.live[offset:end] = data
        inode.touch(offset, end)
        self._between()
        if sync:
            inode.flush(set(range(offset // SECTOR, (end + SECTOR - 1) // SECTOR)))

    def sync(self, handle: int) -> None:
        self._before("sync")
        self._between()
        inode = self._handles[handle]
        inode.flush(set(inode.dirty))

    def truncate(self, handle: int, size: int) -> None:
        inode = self._handles[handle]
        self._before(f"truncate {size}")
        inode.touch(min(size, len(inode.live)), max(size, len(inode.live)))
        _resize(inode.live, size)
        self._between()

    def allocate(self, handle: int, size: int) -> None:
        inode = self._handles[handle]
        self._before(f"allocate {size}")
        if size > len(inode.live):
            self._take_space(size - len(inode.live))
            inode.touch(len(inode.live), size)
            _resize(inode.live, size)
        self._between()

    def _take_space(self, count: int) -> None:
        if self.capacity is None:
            return
        used = sum(len(i.live) for d in self.directories.values() for i in d.live.values())
        if used + count > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def lock(self, handle: int) -> bool:
        inode = self._handles[handle]
        if inode.locked_by not in (None, handle):
            return False
        inode.locked_by = handle
        return True
