"""Reading ranges: the query, its validation, and the cursor that answers it in slices (design D6).

A cursor is pinned at one revision. Between its slices the store goes on, but what the index and
the backend say about a revision never changes until a compaction removes it, and the compaction
waits for cursors below it (see compaction). So the slices together are one consistent answer.

Order of the rules: collect in key order -> filter -> sort -> truncate -> encode (spec/kv.md R9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from kvserver.errors import EmptyKey, InvalidSortOption
from kvserver.limits import SLICE_SECONDS_MAX
from kvserver.mvcc.kv_codec import (
    create_revision_of,
    decode_kv,
    range_kvs,
    varint,
    without_value,
)
from kvserver.mvcc.revision import RevisionKey, bound_after, main_of
from kvserver.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from kvserver.mvcc.store import Store

NEWEST: Final = -1
"""A query that sees what is there at this moment, the running transaction's changes included."""

PAGE_KEYS: Final = 2000
"""Keys looked at between two looks at the budget."""
FETCH_RECORDS_MIN: Final = 250
FETCH_BYTES: Final = 1_000_000
"""Records of about this size are fetched between two looks at the budget."""
FETCH_COST_MIN: Final = 250
"""What copying FETCH_BYTES costs, however few records they are."""
STEP_COST: Final = int(SLICE_SECONDS_MAX * 1_000_000 / 2)
"""Work of one step in units of about a microsecond; half, because machines differ."""

_NONE: Final = rpc_pb2.RangeRequest.NONE
_DESCEND: Final = rpc_pb2.RangeRequest.DESCEND
_KEY: Final = rpc_pb2.RangeRequest.KEY
_MOD: Final = rpc_pb2.RangeRequest.MOD
_VALUE: Final = rpc_pb2.RangeRequest.VALUE

_SORT_FIELDS: Final[dict[int, Callable[[kv_pb2.KeyValue], int | bytes]]] = {
    rpc_pb2.RangeRequest.VERSION: lambda kv: kv.version,
    rpc_pb2.RangeRequest.CREATE: lambda kv: kv.create_revision,
    rpc_pb2.RangeRequest.VALUE: lambda kv: kv.value,
}


def check_range(request: rpc_pb2.RangeRequest) -> None:
    """R1."""
    if not request.key:
        raise EmptyKey
    if not 0 <= request.sort_order <= _DESCEND or not 0 <= request.sort_target <= _VALUE:
        raise InvalidSortOption


def interval_end(key: bytes, range_end: bytes) -> bytes | None:
    """The exclusive end of an interval, None meaning no end (K1, K2)."""
    if not range_end:
        return key + b"\0"
    return None if range_end == b"\0" else range_end


class RangeQuery:
    """A Range request taken apart once, at a revision that is readable."""

    __slots__ = (
        "count_only",
        "descends",
        "end",
        "filters",
        "is_past",
        "key",
        "keys_only",
        "limit",
        "revision",
        "target",
        "wanted",
    )

    def __init__(
        self, request: rpc_pb2.RangeRequest, revision: int, *, is_past: bool = False
    ) -> None:
        """`is_past`: a running transaction has left `revision` behind, the store's own number for
        the current one notwithstanding."""
        self.revision = revision
        self.is_past = is_past
        self.key: bytes = request.key
        self.end = interval_end(self.key, request.range_end)
        self.limit = max(request.limit, 0)
        self.count_only = request.count_only
        self.keys_only = request.keys_only
        self.target = request.sort_target
        self.descends = request.sort_order == _DESCEND
        self.filters = _Filters.of(request)
        # R10: without order and filters only the first limit + 1 keys are looked at, even if they
        # are sorted afterwards. Ascending keys are in their order already.
        is_cut_first = self.filters is None and (
            request.sort_order == _NONE or (self.target == _KEY and not self.descends)
        )
        self.wanted: int | None = self.limit + 1 if self.limit and is_cut_first else None
        """How many keys are enough; None: all."""

    def sees_now(self, store: Store) -> bool:
        """Whether the newest revision of every key is the one asked for."""
        if self.revision == NEWEST:
            return True
        return self.revision == store.revision and not self.is_past


class _Filters:
    """R6. Zero means off."""

    __slots__ = ("max_create", "max_mod", "min_create", "min_mod")

    def __init__(self, min_mod: int, max_mod: int, min_create: int, max_create: int) -> None:
        self.min_mod = min_mod
        self.max_mod = max_mod
        self.min_create = min_create
        self.max_create = max_create

    @staticmethod
    def of(request: rpc_pb2.RangeRequest) -> _Filters | None:
        values = (
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        )
        return _Filters(*values) if any(values) else None

    def pass_revision(self, revision: RevisionKey) -> bool:
        main = main_of(revision)
        return (not self.min_mod or main >= self.min_mod) and (
            not self.max_mod or main <= self.max_mod
        )

    def pass_record(self, record: bytes) -> bool:
        if not self.min_create and not self.max_create:
            return True
        created = create_revision_of(record)
        return (not self.min_create or created >= self.min_create) and (
            not self.max_create or created <= self.max_create
        )


class _Answer:
    """What the slices of a cursor gather."""

    __slots__ = ("count", "kvs", "more")

    def __init__(self) -> None:
        self.count = 0
        self.kvs: list[bytes] = []
        self.more = False


class RangeCursor:
    """One Range being answered. `step` until it is True, then `result`."""

    __slots__ = ("__weakref__", "_answer", "_header_revision", "_readers", "_slices", "revision")

    def __init__(self, store: Store, query: RangeQuery) -> None:
        self.revision = query.revision
        self._header_revision = store.revision
        self._readers = store.compactions.readers
        self._answer = _Answer()
        self._slices = _slices(store, query, self._answer)

    def step(self) -> bool:
        """Go on for at most limits.SLICE_SECONDS_MAX; True when the answer is complete. The first
        step belongs to the loop turn that made the cursor."""
        spent = 0
        for cost in self._slices:
            spent += cost
            if spent >= STEP_COST:
                self._readers.add(self)
                return False
        self._readers.discard(self)
        return True

    def result(self) -> tuple[int, bytes]:
        """The revision for the header (H2) and the body behind it."""
        return self._header_revision, self.body()

    def body(self) -> bytes:
        answer = self._answer
        pieces = answer.kvs
        if answer.more:
            pieces.append(b"\x18\x01")
        if answer.count:
            pieces.append(b"\x20" + varint(answer.count))
        return b"".join(pieces)


def range_body(store: Store, query: RangeQuery) -> bytes:
    """The whole answer at once, for use inside a transaction."""
    cursor = RangeCursor(store, query)
    while not cursor.step():
        pass
    return cursor.body()


def count_interval(store: Store, query: RangeQuery) -> int:
    """The count of a query (R4), at once."""
    answer = _Answer()
    for _ in _collect(store, query, [], answer, count_only=True):
        pass
    return answer.count


# The slices of a query. Each yields what it cost, in microseconds or so.


def _slices(store: Store, query: RangeQuery, answer: _Answer) -> Iterator[int]:
    revisions: list[RevisionKey] = []
    yield from _collect(store, query, revisions, answer, query.count_only)
    if query.count_only:
        return
    filters = query.filters
    if filters is not None:
        revisions = [revision for revision in revisions if filters.pass_revision(revision)]
    if query.target in _SORT_FIELDS or (
        filters is not None and (filters.min_create or filters.max_create)
    ):
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


def _collect(
    store: Store,
    query: RangeQuery,
    revisions: list[RevisionKey],
    answer: _Answer,
    count_only: bool,
) -> Iterator[int]:
    """Count the interval (R4), and gather the revision keys of as many keys as are wanted."""
    index = store.index
    key: bytes | None = query.key
    end = query.end
    is_counted = True
    wanted = query.wanted
    if query.sees_now(store):
        first, last = index.live_positions(query.key, end)
        answer.count = last - first
        if count_only:
            return
        enough = min(last - first, PAGE_KEYS if wanted is None else min(wanted, PAGE_KEYS))
        keys = list(index.live.islice(first, first + enough))
        revisions += map(index.newest.__getitem__, keys)
        if enough == last - first or enough == wanted:
            return
        key = keys[-1] + b"\0"
        yield enough // 2
    elif index.remembers_changes_since(query.revision):
        yield from _count_by_changes(store, query, answer)
    else:
        is_counted = False
    bound = bound_after(query.revision)
    while key is not None:
        limit = PAGE_KEYS
        if is_counted:
            if count_only or (wanted is not None and len(revisions) >= wanted):
                return
            if wanted is not None:
                limit = min(limit, wanted - len(revisions))
        if query.sees_now(store):
            page, key = index.page(key, end, limit)
        else:
            page, key = index.page_at(key, end, limit, bound)
        if not is_counted:
            answer.count += len(page)
        if wanted is None:
            if not count_only:
                revisions += page
        elif len(revisions) < wanted:
            revisions += page[: wanted - len(revisions)]
        yield limit


def _count_by_changes(store: Store, query: RangeQuery, answer: _Answer) -> Iterator[int]:
    """The count at a recent revision: today's, corrected by the keys that changed since. Paging
    readers (Kubernetes, the console) count at the revision of their first page all the time."""
    index = store.index
    bound = bound_after(query.revision)
    first, last = index.live_positions(query.key, query.end)
    changed = index.changed_since(query.revision, query.key, query.end)
    find, newest = index.find, index.newest
    answer.count = (
        last - first + sum((find(key, bound) is not None) - (key in newest) for key in changed)
    )
    yield len(changed)


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


def _encode(query: RangeQuery, records: list[bytes], answer: _Answer) -> None:
    if query.keys_only:
        keeps_lease = query.target == _VALUE  # R11
        records = [without_value(record, keeps_lease) for record in records]
    answer.kvs.append(range_kvs(records))


def _encode_by_record(
    store: Store, query: RangeQuery, revisions: list[RevisionKey], answer: _Answer
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
