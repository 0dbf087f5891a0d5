"""Snapshot files, ours and a real etcd's, for programs that are clients: the thin door to
`interchange`, which knows the format. Not imported by the package itself: it needs no network,
and a client that opens no file should not load it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from kvserver.interchange.bbolt import ImageError
from kvserver.interchange.digest import open_snapshot_file
from kvserver.interchange.reader import Bucket, Image
from kvserver.interchange.status import image_status
from kvserver.proto import kv_pb2

KEY_BUCKET = b"key"
PUT_LENGTH, TOMBSTONE_LENGTH = 17, 18
"""Of a record's place: 8-byte main revision, `_`, 8-byte sub, `t` for a tombstone
(spec/storage.md §4.1)."""


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
    with _failures(), open_snapshot_file(path) as file:
        file.verify_digest()
        found = image_status(file.image)
    return BackupStatus(
        found.hash, found.revision, found.total_keys, found.total_bytes, found.version
    )


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """One version of a key. `place` finds it again; of a tombstone only the key is filled."""

    place: bytes
    kv: kv_pb2.KeyValue

    @property
    def is_tombstone(self) -> bool:
        return len(self.place) == TOMBSTONE_LENGTH

    @property
    def revision(self) -> int:
        return int.from_bytes(self.place[:8])


def backup_records(path: str) -> Iterator[list[BackupRecord]]:
    """Every record in the order of revisions, page by page; the digest is verified first.
    Raises BackupError, and OSError of the disk."""
    with _failures(), open_snapshot_file(path) as file:
        file.verify_digest()
        for pairs in _key_bucket(file.image).items():
            yield [_record(place, data) for place, data in pairs]


def backup_record(path: str, place: bytes) -> BackupRecord | None:
    """The record at a place that `backup_records` told."""
    with _failures(), open_snapshot_file(path) as file:
        data = _key_bucket(file.image).get(place)
    return None if data is None else _record(place, data)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise BackupError(str(error)) from None


def _key_bucket(image: Image) -> Bucket:
    for bucket in image.buckets():
        if bucket.name == KEY_BUCKET:
            return bucket
    raise BackupError("it is no backup of an etcd: it has no bucket of keys")


def _record(place: bytes, data: bytes) -> BackupRecord:
    if len(place) not in (PUT_LENGTH, TOMBSTONE_LENGTH):
        raise BackupError(f"the key bucket holds {place[:32].hex()}, which is no revision")
    try:
        return BackupRecord(place, kv_pb2.KeyValue.FromString(data))
    except DecodeError:
        raise BackupError(f"the record at {place.hex()} is no key-value") from None
