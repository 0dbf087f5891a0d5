"""Keys out of snapshot files, as the frozen records that pages know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from console.gateway import wire
from console.gateway.records import Key
from kvserver.client.backup import BackupError, BackupRecord, backup_record, backup_records

__all__ = ["BackupError", "Kept", "key_at", "read"]


@dataclass(frozen=True, slots=True)
class Kept:
    """One record of a file: a version of a key, or its deletion (`held` is None)."""

    place: bytes
    key: bytes
    revision: int
    held: Key | None


def read(path: str) -> Iterator[list[Kept]]:
    """Every record, oldest first, page by page. Raises BackupError and OSError."""
    for page in backup_records(path):
        yield [_kept(record) for record in page]


def key_at(path: str, place: bytes) -> Key | None:
    """One version with its value."""
    record = backup_record(path, place)
    return wire.key(record.kv, has_value=True) if record else None


def _kept(record: BackupRecord) -> Kept:
    held = None if record.is_tombstone else wire.key(record.kv, has_value=True)
    return Kept(record.place, record.kv.key, record.revision, held)
