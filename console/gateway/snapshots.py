"""A member's snapshot as a stream, verified on the way (spec/maintenance.md §6), and such files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from console.gateway.errors import ClusterError, domain_error
from console.gateway.reader import Reader
from console.gateway.upkeep import check_is
from console.overview.health import Member
from kvserver.client import CallFailed, Download, Endpoint
from kvserver.client.backup import BackupError, BackupStatus, backup_status
from kvserver.proto import rpc_pb2

SNAPSHOT_SECONDS_MAX = 4 * 3600.0
DIGEST_BYTES = hashlib.sha256().digest_size

__all__ = ["BackupError", "BackupStatus", "SnapshotStream", "backup_status"]


class SnapshotStream:
    """Asked of one member. `total_bytes` is the file's size, digest included; the first message
    tells it (N2). Iterate once; the digest comes last, and only if it is the data's own."""

    def __init__(self, reader: Reader, member: Member) -> None:
        self._endpoint = Endpoint.parse(member.reached_at)
        self.revision = check_is(reader, self._endpoint, member).revision
        """Of the member just before: the snapshot holds this one or a later one."""
        self.sent_bytes = 0
        self._hash = hashlib.sha256()
        try:
            self._download = Download(
                reader._client,
                self._endpoint,
                lambda stubs: stubs.maintenance.Snapshot,
                rpc_pb2.SnapshotRequest(),
                SNAPSHOT_SECONDS_MAX,
            )
            self._messages = iter(self._download)
            self._first = next(self._messages, None)
        except CallFailed as error:
            raise domain_error(error) from None
        if self._first is None:
            raise self._damaged("the stream ended before it began")
        self._data_bytes = len(self._first.blob) + self._first.remaining_bytes
        self.total_bytes = self._data_bytes + DIGEST_BYTES

    @property
    def sha256(self) -> str:
        """The digest of what was read so far: of all data, after the last chunk."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        """Chunks of the file. ClusterError when it breaks off or is not what its digest says."""
        yield self._take(self._first.blob)
        try:
            for message in self._messages:
                if self.sent_bytes < self._data_bytes:
                    yield self._take(message.blob)
                else:
                    yield self._verified(message.blob)
                    return
        except CallFailed as error:
            raise domain_error(error) from None
        raise self._damaged(f"the stream ended after {self.sent_bytes} of {self.total_bytes} bytes")

    def cancel(self) -> None:
        self._download.cancel()

    def _take(self, blob: bytes) -> bytes:
        self._hash.update(blob)
        self.sent_bytes += len(blob)
        if self.sent_bytes > self._data_bytes:
            raise self._damaged(f"more than the announced {self._data_bytes} bytes came")
        return blob

    def _verified(self, digest: bytes) -> bytes:
        if digest != self._hash.digest():
            raise self._damaged("the data do not have the digest that was sent with them")
        self.sent_bytes += len(digest)
        return digest

    def _damaged(self, text: str) -> ClusterError:
        return ClusterError("DATA_LOSS", text, str(self._endpoint))
