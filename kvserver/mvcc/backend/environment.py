"""The LMDB file: opening, checking, sizing, replacing. The only code here that knows of files.

`<name>` is the data file, `<name>-lock` LMDB's lock file, `<name>.tmp.<n>` a copy being made by a
defragmentation. LMDB runs with its default sync: a commit is durable when it returns, and
either whole or absent (design §4). An LMDB file grows and never shrinks; pages that its trees let
go of wait in a free list for the next transactions.

Crash rules (spec/storage.md §5): killed during a commit, the file is as before it. Killed during a
defragmentation, `<name>` is either the old file or a complete, synced copy with the same contents;
left-over copies are deleted at the next start. A lock file without its process is reset by LMDB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape, glob
from typing import Final

import lmdb

from kvserver.errors import FatalError
from kvserver.mvcc.backend.tables import KEY, TABLES

FILE_MODE: Final = 0o600
META_PAGES: Final = 2
TEMPORARY: Final = ".tmp."
LOCK: Final = "-lock"

RESTORE_HINT = (
    "Restore this member from a backup, or remove its data directory and add it to the cluster "
    "again as a new member."
)


class Environment:
    """One open file with its table handles. The loop owns it; the flush thread uses it inside the
    one job that is under way."""

    def __init__(self, path: str, map_size_bytes: int) -> None:
        """Open or create. FatalError for a file that is not a whole LMDB file of ours."""
        self.path = path
        self.snapshots = 0
        """How many are open. The loop counts."""
        self.is_retired = False
        """Another environment took its place: the last snapshot closes it."""
        is_new = not os.path.exists(path)
        with lmdb_errors(f"cannot open the backend {path}"):
            self.lmdb = lmdb.open(
                path,
                subdir=False,
                map_size=map_size_bytes,
                max_dbs=len(TABLES),
                mode=FILE_MODE,
            )
        os.chmod(path, FILE_MODE)  # also when an earlier file or the umask said otherwise
        try:
            self._open_tables()
        except BaseException:
            self.lmdb.close()
            raise
        if is_new:
            sync_directory(os.path.dirname(path))

    def _open_tables(self) -> None:
        with lmdb_errors(f"cannot read the backend {self.path}"):
            is_short = self._lengthen()
            with self.lmdb.begin(write=True) as txn:
                self.tables = {t: self.lmdb.open_db(t.encode(), txn=txn) for t in TABLES}
                self._main = self.lmdb.open_db(None, txn=txn)
            self.page_bytes: int = self.lmdb.stat()["psize"]
            if is_short:
                self._walk()

    def _lengthen(self) -> bool:
        """Make the file as long as its last used page. LMDB need not write pages that a
        transaction took and gave back, so a short file may be sound; but touching memory that is
        mapped beyond the end of a file would kill the process."""
        used_bytes = (self.lmdb.info()["last_pgno"] + 1) * self.lmdb.stat()["psize"]
        if os.path.getsize(self.path) >= used_bytes:
            return False
        os.truncate(self.path, used_bytes)
        return True

    def _walk(self) -> None:
        """Read everything once: a file that lost its tail has trees that lead into nothing."""
        with self.lmdb.begin() as txn:
            for table, handle in self.tables.items():
                found = sum(1 for _ in txn.cursor(handle))
                if found != txn.stat(handle)["entries"]:
                    raise lmdb.CorruptedError(f"table {table} is cut off")

    def begin_read(self) -> lmdb.Transaction[bytes]:
        """A read transaction whose `get` looks in the key table. Ended ones are pooled: a new one
        costs about 10 us."""
        return self.lmdb.begin(db=self.tables[KEY])

    def in_use_bytes(self, txn: lmdb.Transaction[bytes]) -> int:
        """What `txn` sees in use: the pages of all trees, the main one included, and two meta
        pages. A compact copy has just these."""
        pages = META_PAGES
        for handle in (self._main, *self.tables.values()):
            stat = txn.stat(handle)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return pages * self.page_bytes

    def allocated_bytes(self) -> int:
        """Last used page x page size: what the quota counts (spec/storage.md §4.4)."""
        last_page: int = self.lmdb.info()["last_pgno"]
        return (last_page + 1) * self.page_bytes

    def close(self) -> None:
        self.lmdb.close()


@contextmanager
def lmdb_errors(doing: str) -> Iterator[None]:
    """LMDB's complaints in our own words: what happened and what to do."""
    try:
        yield
    except lmdb.MapFullError as error:
        raise FatalError(
            f"{doing}: the memory map is full ({error}). Raise --quota-backend-bytes and start "
            "again, then compact and defragment."
        ) from error
    except (lmdb.InvalidError, lmdb.VersionMismatchError) as error:
        raise FatalError(
            f"{doing}: this is no backend file of this program ({error}). A data directory of "
            f"etcd cannot be opened in place; restore a snapshot of it instead. {RESTORE_HINT}"
        ) from error
    except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError) as error:
        raise FatalError(f"{doing}: the file is damaged ({error}). {RESTORE_HINT}") from error
    except (lmdb.Error, OSError) as error:
        raise FatalError(f"{doing}: {error}. Check the disk's space and health.") from error


def remove_temporaries(path: str) -> list[str]:
    """Delete what a killed defragmentation left beside `path`; returns the names."""
    leftovers = sorted(glob(escape(path) + TEMPORARY + "*"))
    for leftover in leftovers:
        os.unlink(leftover)
    return leftovers


def temporary_path(path: str, number: int) -> str:
    return f"{path}{TEMPORARY}{number}"


def create_file(path: str) -> int:
    """A new, private, empty file, open for writing. Each write is synced, so that a copy of half a
    gigabyte does not end in one sync that the log's own syncs have to queue behind (their p99 was
    50 ms with, 15 ms without)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_DSYNC
    return os.open(path, flags, FILE_MODE)


def discard(path: str) -> None:
    """Delete a copy that came to nothing, with its lock file, as far as they exist."""
    for name in (path, path + LOCK):
        with suppress(FileNotFoundError):
            os.unlink(name)


def rename_over(new: str, old: str) -> None:
    """Put an open environment's files in another's place. The lock file moves too, so that the two
    environments never share one: its reader table belongs to the pages of its own file."""
    os.rename(new, old)
    os.rename(new + LOCK, old + LOCK)
    sync_directory(os.path.dirname(old))


def sync_directory(path: str) -> None:
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
