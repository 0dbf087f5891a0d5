"""What a snapshot file holds, by key: a small SQLite file beside it. No Django in here.

A snapshot is ordered by revision, so finding a key means reading all of it. That is done once;
the index says for each key that was live where its record lies, and values stay in the snapshot.
It can be thrown away at any time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from console.keys.paging import KeyRange

DIRECTORY = ".index"
SCHEMA = """
CREATE TABLE keys (
    key BLOB PRIMARY KEY, place BLOB NOT NULL, create_revision INTEGER NOT NULL,
    mod_revision INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE facts (revision INTEGER NOT NULL, records INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that was live when the snapshot was taken."""

    key: bytes
    place: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Facts:
    revision: int
    records: int
    keys: int


def index_path(snapshot: Path) -> Path:
    """The index of exactly this file: another size or time is another file."""
    found = snapshot.stat()
    name = f"{snapshot.name}.{found.st_size}-{found.st_mtime_ns}.sqlite3"
    return snapshot.parent / DIRECTORY / name


def build(
    path: Path,
    pages: Iterable[Iterable[tuple[int, Entry | None, bytes]]],
    tell: Callable[[int], None],
) -> None:
    """`pages` of (revision, entry or None for a deletion, key), oldest first. `tell` hears the
    records so far and may raise: nothing is left then."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.touch(0o600)
    try:
        with closing(sqlite3.connect(part, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=OFF")
            database.execute("PRAGMA synchronous=OFF")
            database.executescript(SCHEMA)
            database.execute("BEGIN")
            records = revision = 0
            for page in pages:
                for main, one, key in page:
                    records, revision = records + 1, main
                    if one is None:
                        database.execute("DELETE FROM keys WHERE key = ?", (key,))
                    else:
                        database.execute(
                            "REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)", _row(one)
                        )
                tell(records)
            database.execute("INSERT INTO facts VALUES (?, ?)", (revision, records))
            database.execute("COMMIT")
        drop(path.parent.parent / path.name.rsplit(".", 2)[0])
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _row(one: Entry) -> tuple[object, ...]:
    revisions = (one.create_revision, one.mod_revision, one.version)
    return (one.key, one.place, *revisions, one.lease, one.size_bytes)


def drop(snapshot: Path) -> None:
    """Every index of a file of this name, whatever it held then."""
    for old in (snapshot.parent / DIRECTORY).glob(f"{escape(snapshot.name)}.*.sqlite3"):
        old.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        yield database
    finally:
        database.close()


def facts(path: Path) -> Facts:
    with _opened(path) as database:
        revision, records = database.execute("SELECT revision, records FROM facts").fetchone()
        [keys] = database.execute("SELECT count(*) FROM keys").fetchone()
    return Facts(revision, records, keys)


def page_of(path: Path, keys: KeyRange, after: bytes | None, limit: int) -> tuple[list[Entry], int]:
    """Keys of a range in order, and how many the range has."""
    end = " AND key < :end" if keys.has_end else ""
    values = {"start": keys.start, "end": keys.end, "after": after or b"", "limit": limit}
    # The first key there can be is one NUL byte, so an empty `after` is before all of them.
    listed = (
        f"SELECT * FROM keys WHERE key >= :start{end} AND key > :after ORDER BY key LIMIT :limit"
    )
    counted = f"SELECT count(*) FROM keys WHERE key >= :start{end}"
    with _opened(path) as database:
        rows = database.execute(listed, values).fetchall()
        [count] = database.execute(counted, values).fetchone()
    return [Entry(*row) for row in rows], count


def entry_of(path: Path, key: bytes) -> Entry | None:
    with _opened(path) as database:
        row = database.execute("SELECT * FROM keys WHERE key = ?", (key,)).fetchone()
    return Entry(*row) if row else None
