"""An image's records into the backend of a new member (spec/bbolt.md §3.2).

Tables pass byte for byte. Left out: whatever belongs to the old cluster (members, applied index,
term, configuration) and the storage version, which follows the cluster version. What would stop
the server when it starts is refused here, where it can be said which record it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from kvserver.interchange.bbolt import ImageError
from kvserver.interchange.reader import Bucket, Image, PageMap
from kvserver.interchange.tables import CLUSTER_VERSION_KEY
from kvserver.limits import FLUSH_BYTES_MAX, FLUSH_RECORDS_MAX
from kvserver.mvcc.backend.api import NO_GRANT, Backend, Pair
from kvserver.mvcc.backend.long_names import stored_key, whole_name
from kvserver.mvcc.backend.tables import (
    ALARM,
    AUTH,
    AUTH_ROLES,
    AUTH_USERS,
    CLUSTER,
    FINISHED_COMPACT_REVISION,
    KEY,
    LEASE,
    META,
    SCHEDULED_COMPACT_REVISION,
)
from kvserver.mvcc.revision import PUT_LENGTH, TOMBSTONE_LENGTH, main_of, revision_key
from kvserver.proto import kv_pb2
from kvserver.version import CLUSTER_VERSION

PASSED_TABLES = (ALARM, AUTH, AUTH_ROLES, AUTH_USERS, LEASE)
PASSED_META = (FINISHED_COMPACT_REVISION, SCHEDULED_COMPACT_REVISION)


@dataclass(frozen=True, slots=True)
class Bump:
    """Let revisions go on `revisions` later, everything before marked as compacted (R5): clients
    that know newer revisions than the backup has hear "compacted" and read anew."""

    revisions: int


class Importer:
    """Fills a fresh backend, flushing as it goes: memory stays that of one flush."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._last_main = 0

    def run(self, image: Image, bump: Bump | None) -> None:
        """Everything of `image`. ImageError names what does not belong into one."""
        used = PageMap(image.meta.high_water)
        for bucket in image.buckets(used):
            if bucket.name.decode(errors="replace") == KEY:
                for _ in self.record_slices(bucket, used):
                    self._flush_when_due()
            else:
                self.small_table(bucket, used)
        if bump is not None:
            self._bump(bump)

    def small_table(self, bucket: Bucket, used: PageMap) -> None:
        """Any bucket but the records'."""
        table = bucket.name.decode(errors="replace")
        if table in PASSED_TABLES:
            for rows in bucket.items(used):
                self._rows(table, rows)
        elif table == META:
            self._meta(bucket, used)
        elif table == CLUSTER:
            self._cluster(bucket, used)
        else:
            bucket.check(used)

    def flush(self) -> None:
        job = self._backend.begin_flush()
        if job is not None:
            job.run(NO_GRANT)
            self._backend.finish_flush(job)

    @property
    def is_flush_due(self) -> bool:
        backend = self._backend
        return (
            backend.pending_bytes >= FLUSH_BYTES_MAX or backend.pending_records >= FLUSH_RECORDS_MAX
        )

    def _flush_when_due(self) -> None:
        if self.is_flush_due:
            self.flush()

    def record_slices(self, bucket: Bucket, used: PageMap) -> Iterator[list[Pair]]:
        """The records, a page at a time; between two of them the caller flushes when it is due."""
        append = self._backend.append
        parse = kv_pb2.KeyValue.FromString
        revision = b""
        for pairs in bucket.items(used):
            for revision, record in pairs:
                if len(revision) not in (PUT_LENGTH, TOMBSTONE_LENGTH) or revision[8:9] != b"_":
                    raise ImageError(f"the key bucket holds {_short(revision)}: no revision")
                try:
                    parse(record)
                except DecodeError:
                    raise ImageError(
                        f"the record of revision {main_of(revision)} is no KeyValue"
                    ) from None
                append(revision, record)
            yield pairs
        if revision:
            self._last_main = main_of(revision)

    def _rows(self, table: str, rows: Iterable[Pair]) -> None:
        for key, value in rows:
            if whole_name(stored_key(key), value) != key:
                raise ImageError(f"{table} holds a key of {len(key)} bytes that is no name")
            self._backend.put(table, key, value)
        self._flush_when_due()

    def _meta(self, bucket: Bucket, used: PageMap) -> None:
        for rows in bucket.items(used):
            for key, value in rows:
                if key not in PASSED_META:
                    continue
                if len(value) != PUT_LENGTH:
                    raise ImageError(f"{key.decode()} is {_short(value)}: no revision")
                self._backend.put(META, key, value)

    def _cluster(self, bucket: Bucket, used: PageMap) -> None:
        for rows in bucket.items(used):
            for key, value in rows:
                if key == CLUSTER_VERSION_KEY and not _is_known(value):
                    continue  # the new cluster agrees on one of its own
                self._rows(CLUSTER, [(key, value)])

    def _bump(self, bump: Bump) -> None:
        revision = revision_key(self._last_main + bump.revisions, 0)
        self._backend.append(revision, b"")
        self._backend.put(META, SCHEDULED_COMPACT_REVISION, revision)


def _is_known(version: bytes) -> bool:
    """Whether this is a version at all. One above ours is refused: its data may mean more than we
    can read, and a member must not join a cluster of a later version (spec/bbolt.md §3.3)."""
    try:
        numbers = tuple(int(part) for part in version.decode().split("."))
    except ValueError:
        return False
    if numbers[:2] > tuple(int(part) for part in CLUSTER_VERSION.split("."))[:2]:
        raise ImageError(
            f"the snapshot is from a cluster of version {version.decode()}; this program knows "
            f"versions up to {CLUSTER_VERSION}"
        )
    return len(numbers) == 3


def _short(data: bytes) -> str:
    return data[:32].hex() or "nothing"
