"""RangeStream: one Range in chunks (spec/kv.md §14).

All chunks read the revision pinned at the first one. A client may be slow, so the stream holds no
compaction up: it ends with the compacted error when its revision goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from kvserver.errors import Code, Compacted, RequestError
from kvserver.limits import REQUEST_BYTES_MAX
from kvserver.mvcc.kv_codec import length_delimited, range_kvs, varint, without_value
from kvserver.mvcc.range import RangeQuery, check_range
from kvserver.mvcc.range_slices import PAGE_KEYS_MIN, count, page_of
from kvserver.mvcc.revision import RevisionKey
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
    total = count(store, query)
    left = min(total, query.limit) if query.limit else total
    if query.count_only:
        left = 0
    key: bytes | None = query.key
    size = FIRST_CHUNK_KEYS
    pending = b""
    found: list[RevisionKey] = []
    while left:
        if query.revision < store.compact_revision:
            raise Compacted
        size = min(size, left)
        while len(found) < size and key is not None:
            page, key = page_of(store, query, key, max(size - len(found), PAGE_KEYS_MIN))
            found += page
        records = store.backend.get_many(found[:size])
        del found[:size]
        left -= size
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
    if not query.count_only and query.limit and total > query.limit:
        body += b"\x18\x01"
    if total:
        body += b"\x20" + varint(total)
    yield length_delimited(b"\x0a", body)
