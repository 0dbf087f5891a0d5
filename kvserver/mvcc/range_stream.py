"""RangeStream: one Range in chunks (spec/kv.md §14).

All chunks read the revision pinned at the first one. A client may be slow, so the stream holds no
compaction up: it ends with the compacted error when its revision goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from kvserver.errors import Code, Compacted, RequestError
from kvserver.limits import REQUEST_BYTES_MAX
from kvserver.mvcc import range_slices
from kvserver.mvcc.kv_codec import length_delimited, range_kvs, varint, without_value
from kvserver.mvcc.range import RangeQuery, check_range
from kvserver.mvcc.revision import bound_after
from kvserver.proto import rpc_pb2

if TYPE_CHECKING:
    from kvserver.mvcc.store import Store

FIRST_CHUNK_KEYS: Final = 10
CHUNK_KEYS_MAX: Final = 4096
"""More would hold the loop for longer than a slice."""


def check_range_stream(request: rpc_pb2.RangeRequest) -> None:
    """S1."""
    check_range(request)
    if request.sort_order or request.sort_target:
        raise RequestError("RangeStream does not support custom sort orders", Code.UNIMPLEMENTED)
    if (
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    ):
        raise RequestError("RangeStream does not support revision filters", Code.UNIMPLEMENTED)


def chunks(
    store: Store, request: rpc_pb2.RangeRequest, header: Callable[[int], bytes]
) -> Iterator[bytes]:
    """Encoded RangeStreamResponses; only the last carries header, more and count (S3)."""
    check_range_stream(request)
    revision = store.readable_revision(request.revision)
    store.counters.ranges += 1
    return _chunks(store, RangeQuery(request, revision), header)


def _chunks(store: Store, query: RangeQuery, header: Callable[[int], bytes]) -> Iterator[bytes]:
    count = range_slices.count(store, query)
    left = min(count, query.limit) if query.limit else count
    if query.count_only:
        left = 0
    key: bytes | None = query.key
    size = FIRST_CHUNK_KEYS
    pending = b""
    bound = bound_after(query.revision)
    while left and key is not None:
        if query.revision < store.compact_revision:
            raise Compacted
        revisions, key = store.index.page_at(key, query.end, min(size, left), bound)
        if not revisions:
            continue
        left -= len(revisions)
        records = store.backend.get_many(revisions)
        if query.keys_only:
            records = [without_value(record, keeps_lease=False) for record in records]
        if pending:
            yield length_delimited(b"\x0a", pending)
        pending = range_kvs(records)
        if len(pending) < REQUEST_BYTES_MAX // 2:
            size = min(size * 2, CHUNK_KEYS_MAX)
        elif len(pending) > REQUEST_BYTES_MAX * 2:
            size = max(size // 2, 1)
    body = header(query.revision) + pending
    if not query.count_only and query.limit and count > query.limit:
        body += b"\x18\x01"
    if count:
        body += b"\x20" + varint(count)
    yield length_delimited(b"\x0a", body)
