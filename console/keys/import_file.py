"""A file of keys between its sending and its end, and what it would change.

It waits in the console's own directory, readable by nobody else, and goes after an hour at the
latest; a job that has begun to read it keeps it to its end.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from django.conf import settings

from console.gateway import Key, Reader
from console.keys.batches import Change
from console.keys.interchange import BadFile, Entry, read

ENTRIES_MAX = 100_000
KEPT_SECONDS = 3600
LOOKED_UP_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was sent, and what was chosen for it: whether only new keys are written, and
    whether leases noted in it are attached."""

    token: str
    kind: str
    name: str
    only_new: bool = False
    takes_leases: bool = False

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Source:
        return cls(**kept)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def path(self) -> Path:
        return _directory() / self.token

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


def keep(chunks: Iterable[bytes], kind: str, name: str) -> Source:
    """Write what was sent to a place of its own; what others left too long goes."""
    spool()
    source = Source(secrets.token_urlsafe(24), kind, name)
    source.path.touch(mode=0o600)
    with source.path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
    return source


def spool() -> Path:
    """Where files wait; what has waited too long goes."""
    directory = _directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.stat().st_mtime < time.time() - KEPT_SECONDS:
            path.unlink(missing_ok=True)
    return directory


def _directory() -> Path:
    return Path(settings.CONSOLE_DIR) / "imports"


def first_entry(source: Source) -> Entry:
    """Whoever may read nothing else may read this, or the import would be refused anyway."""
    with source.path.open("rb") as file:
        for entry in read(file, source.kind):
            return entry
    raise BadFile("the file has no entries")


def lines(source: Source) -> int:
    """How many entries there are to come, for the eye: 0 where only reading tells."""
    if source.kind != "ndjson":
        return 0
    with source.path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1024 * 1024), b""))


def compared(
    reader: Reader, source: Source, base: int
) -> Iterator[tuple[Entry, Key | None, Change | None]]:
    """Every entry with what the cluster held at `base` and what is to be done about it. Raises
    BadFile."""
    alive: dict[int, bool] = {}
    with source.path.open("rb") as file:
        for block in _blocks(read(file, source.kind)):
            held = reader.keys_at([entry.key for entry in block], base)
            for entry, now in zip(block, held, strict=True):
                lease = entry.lease if source.takes_leases else 0
                if lease and lease not in alive:
                    alive[lease] = not reader.lease_time(lease).is_gone
                lease = lease if alive.get(lease) else 0
                yield entry, now, _change(entry, now, lease, source.only_new)


def _change(entry: Entry, now: Key | None, lease: int, only_new: bool) -> Change | None:
    if now is None:
        return Change(entry.key, 0, entry.value, lease)
    is_same = now.value == entry.value and (not lease or lease == now.lease)
    if only_new or is_same:
        return None
    # A key keeps the lease it has unless the file's is taken (trap 1).
    keeps = bool(now.lease) and not lease
    return Change(entry.key, now.mod_revision, entry.value, lease, keeps_lease=keeps)


def _blocks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Blocks small enough to be held: by count and by bytes. A key stands in a file once."""
    block: list[Entry] = []
    size = 0
    seen: set[bytes] = set()
    for entry in entries:
        mark = blake2b(entry.key, digest_size=16).digest()
        if mark in seen:
            raise BadFile(f"line {entry.line}: this key stands in the file twice")
        if len(seen) == ENTRIES_MAX:
            raise BadFile(f"more than {ENTRIES_MAX} entries: split the file")
        seen.add(mark)
        block.append(entry)
        size += len(entry.value)
        if len(block) == LOOKED_UP_AT_ONCE or size > 4 * 1024 * 1024:
            yield block
            block, size = [], 0
    if block:
        yield block
