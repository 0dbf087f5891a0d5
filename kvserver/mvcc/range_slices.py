"""How a range is worked out, in slices (design D6).

Order of the rules: collect in key order -> filter -> sort -> truncate -> encode (spec/kv.md R9).
Every generator here yields after a slice of work what that slice cost, in microseconds or so; the
cursor adds it up and decides when to let others run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from kvserver.mvcc.index import Page
from kvserver.mvcc.kv_codec import decode_kv, range_kvs, without_value
from kvserver.mvcc.revision import RevisionKey, bound_after
from kvserver.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from kvserver.mvcc.range import RangeQuery
    from kvserver.mvcc.store import Store

PAGE_KEYS: Final = 2000
"""Keys looked at in one slice."""
PAGE_KEYS_MIN: Final = 200
"""Of the past: many of the keys there are now may not have lived then."""
FETCH_RECORDS_MIN: Final = 250
FETCH_BYTES: Final = 1_000_000
"""Records of about this size are fetched in one slice."""
FETCH_COST_MIN: Final = 250
"""What copying FETCH_BYTES costs, however few records they are."""

_MOD: Final = rpc_pb2.RangeRequest.MOD
_VALUE: Final = rpc_pb2.RangeRequest.VALUE
_SORT_FIELDS: Final[dict[int, Callable[[kv_pb2.KeyValue], int | bytes]]] = {
    rpc_pb2.RangeRequest.VERSION: lambda kv: kv.version,
    rpc_pb2.RangeRequest.CREATE: lambda kv: kv.create_revision,
    rpc_pb2.RangeRequest.VALUE: lambda kv: kv.value,
}
"""Orders that need the record; the revision key is enough for the others."""


class Answer:
    """What the slices gather."""

    __slots__ = ("count", "kvs", "more")

    def __init__(self) -> None:
        self.count = 0
        self.kvs: list[bytes] = []
        """Encoded pieces of field 2 of the response."""
        self.more = False


def slices(store: Store, query: RangeQuery, answer: Answer) -> Iterator[int]:
    """Everything, from the index to the encoded response."""
    revisions: list[RevisionKey] = []
    yield from _collect(store, query, revisions, answer)
    if query.count_only:
        return
    filters = query.filters
    if filters is not None:
        revisions = [revision for revision in revisions if filters.pass_revision(revision)]
    if query.target in _SORT_FIELDS or (filters is not None and filters.need_record):
        yield from _encode_by_record(store, query, revisions, answer)
        return
    if query.target == _MOD:
        # Stable and by main alone: ties stay in key order, descending too (R8).
        revisions.sort(key=lambda revision: revision[:8], reverse=query.descends)
    elif query.descends:
        revisions.reverse()
    if query.limit and len(revisions) > query.limit:
        answer.more = True
        del revisions[query.limit :]
    for records in _fetch(store, revisions):
        _encode(query, records, answer)
        yield max(len(records), FETCH_COST_MIN)


def count(store: Store, query: RangeQuery) -> int:
    """The count of a query (R4), at once."""
    answer = Answer()
    for _ in _count(store, query, answer):
        pass
    return answer.count


def _collect(
    store: Store, query: RangeQuery, revisions: list[RevisionKey], answer: Answer
) -> Iterator[int]:
    """The count, and the revision keys of as many keys as are wanted, in key order."""
    if query.count_only or not query.sees_now(store):
        yield from _count(store, query, answer)
        if not query.count_only:
            yield from _walk(store, query, query.key, revisions)
        return
    index = store.index
    first, last = index.live_positions(query.key, query.end)
    answer.count = last - first
    if query.wants_last:
        first = max(first, last - query.limit - 1)
    wanted = last - first if query.wanted is None else min(last - first, query.wanted)
    keys = list(index.live.islice(first, first + min(wanted, PAGE_KEYS)))
    revisions += map(index.newest.__getitem__, keys)
    if wanted > PAGE_KEYS:
        yield PAGE_KEYS // 2
        yield from _walk(store, query, keys[-1] + b"\0", revisions)


def _walk(
    store: Store, query: RangeQuery, key: bytes, revisions: list[RevisionKey]
) -> Iterator[int]:
    """Go on from `key` until the end of the interval or until enough was found."""
    following: bytes | None = key
    wanted = query.wanted
    while following is not None and (wanted is None or len(revisions) < wanted):
        limit = PAGE_KEYS
        if wanted is not None:
            limit = min(limit, max(wanted - len(revisions), PAGE_KEYS_MIN))
        page, following = page_of(store, query, following, limit)
        revisions += page
        yield limit
    if wanted is not None:
        del revisions[wanted:]


def page_of(store: Store, query: RangeQuery, key: bytes, limit: int) -> Page:
    """What at most `limit` keys from `key` on have at the query's revision."""
    if query.sees_now(store):
        return store.index.page(key, query.end, limit)
    return store.index.page_at(key, query.end, limit, bound_after(query.revision))


def _count(store: Store, query: RangeQuery, answer: Answer) -> Iterator[int]:
    """R4. O(log n) now; for a recent revision today's count, corrected by the keys that came or
    went since, because paging readers (Kubernetes, the console) count at the revision of their
    first page all the time; for an older one key by key."""
    index = store.index
    if query.sees_now(store):
        first, last = index.live_positions(query.key, query.end)
        answer.count = last - first
        return
    bound = bound_after(query.revision)
    if index.remembers_changes_since(query.revision):
        yield from _count_by_changes(store, query, bound, answer)
        return
    key: bytes | None = query.key
    while key is not None:
        page, key = index.page_at(key, query.end, PAGE_KEYS, bound)
        answer.count += len(page)
        yield PAGE_KEYS


def _count_by_changes(
    store: Store, query: RangeQuery, bound: bytes, answer: Answer
) -> Iterator[int]:
    """What is live now is taken at one moment; what was live then does not change any more."""
    index = store.index
    first, last = index.live_positions(query.key, query.end)
    changed = index.changed_since(query.revision, query.key, query.end)
    answer.count = last - first - sum(map(index.newest.__contains__, changed))
    yield len(changed) // 8
    find = index.find
    for at in range(0, len(changed), PAGE_KEYS):
        piece = changed[at : at + PAGE_KEYS]
        answer.count += sum(find(key, bound) is not None for key in piece)
        yield len(piece)


def _fetch(store: Store, revisions: list[RevisionKey]) -> Iterator[list[bytes]]:
    """The records, in pieces of bounded size."""
    get_many = store.backend.get_many
    at, size, total = 0, FETCH_RECORDS_MIN, len(revisions)
    while at < total:
        records = get_many(revisions[at : at + size] if at or total > size else revisions)
        yield records
        at += len(records)
        if at < total:
            average = sum(map(len, records)) // len(records) + 1
            size = max(1, min(size * 4, FETCH_BYTES // average))


def _encode_by_record(
    store: Store, query: RangeQuery, revisions: list[RevisionKey], answer: Answer
) -> Iterator[int]:
    """Filters and orders that need more of a record than its revision."""
    filters = query.filters
    records: list[bytes] = []
    for piece in _fetch(store, revisions):
        records += piece if filters is None else filter(filters.pass_record, piece)
        yield max(2 * len(piece), FETCH_COST_MIN)
    field = _SORT_FIELDS.get(query.target)
    if field is not None:
        records.sort(key=lambda record: field(decode_kv(record)), reverse=query.descends)
    elif query.target == _MOD:
        records.sort(key=lambda r: decode_kv(r).mod_revision, reverse=query.descends)
    elif query.descends:
        records.reverse()
    if query.limit and len(records) > query.limit:
        answer.more = True
        del records[query.limit :]
    _encode(query, records, answer)


def _encode(query: RangeQuery, records: list[bytes], answer: Answer) -> None:
    if query.keys_only:
        keeps_lease = query.target == _VALUE  # R11
        records = [without_value(record, keeps_lease) for record in records]
    answer.kvs.append(range_kvs(records))
