"""Reading ranges: the query, its validation, and the cursor that answers it in steps (design D6).

A cursor is pinned at one revision. Between its steps the store goes on, but what the index and the
backend say about a revision never changes until a compaction removes it, and the compaction waits
for cursors below it (see compaction). So the steps together are one consistent answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvserver.errors import EmptyKey, InvalidSortOption
from kvserver.limits import SLICE_SECONDS_MAX
from kvserver.mvcc.kv_codec import create_revision_of, varint
from kvserver.mvcc.range_slices import Answer, slices
from kvserver.mvcc.revision import RevisionKey, main_of
from kvserver.proto import rpc_pb2

if TYPE_CHECKING:
    from kvserver.mvcc.store import Store

NEWEST: Final = -1
"""A query that sees what is there at this moment, the running transaction's changes included."""

STEP_COST: Final = int(SLICE_SECONDS_MAX * 1_000_000 / 2)
"""Work of one step in units of about a microsecond; half, because machines differ."""

_NONE: Final = rpc_pb2.RangeRequest.NONE
_DESCEND: Final = rpc_pb2.RangeRequest.DESCEND
_KEY: Final = rpc_pb2.RangeRequest.KEY
_VALUE: Final = rpc_pb2.RangeRequest.VALUE


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
        "wants_last",
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
        self.filters = Filters.of(request)
        # R10: without order and filters only the first limit + 1 keys are looked at, even if they
        # are sorted afterwards. Ascending keys are in their order already.
        is_cut_first = self.filters is None and (
            request.sort_order == _NONE or (self.target == _KEY and not self.descends)
        )
        self.wanted: int | None = self.limit + 1 if self.limit and is_cut_first else None
        """How many keys are enough; None: all."""
        self.wants_last = bool(
            self.limit and self.filters is None and self.target == _KEY and self.descends
        )
        """The last limit + 1 keys are enough."""

    def sees_now(self, store: Store) -> bool:
        """Whether the newest revision of every key is the one asked for."""
        if self.revision == NEWEST:
            return True
        return self.revision == store.revision and not self.is_past


class Filters:
    """R6. Zero means off."""

    __slots__ = ("max_create", "max_mod", "min_create", "min_mod")

    def __init__(self, min_mod: int, max_mod: int, min_create: int, max_create: int) -> None:
        self.min_mod = min_mod
        self.max_mod = max_mod
        self.min_create = min_create
        self.max_create = max_create

    @staticmethod
    def of(request: rpc_pb2.RangeRequest) -> Filters | None:
        values = (
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        )
        return Filters(*values) if any(values) else None

    def pass_revision(self, revision: RevisionKey) -> bool:
        main = main_of(revision)
        return (not self.min_mod or main >= self.min_mod) and (
            not self.max_mod or main <= self.max_mod
        )

    @property
    def need_record(self) -> bool:
        return bool(self.min_create or self.max_create)

    def pass_record(self, record: bytes) -> bool:
        created = create_revision_of(record)
        return (not self.min_create or created >= self.min_create) and (
            not self.max_create or created <= self.max_create
        )


class RangeCursor:
    """One Range being answered. `step` until it is True, then `result`."""

    __slots__ = ("__weakref__", "_answer", "_header_revision", "_readers", "_slices", "revision")

    def __init__(self, store: Store, query: RangeQuery) -> None:
        self.revision = query.revision
        self._header_revision = store.revision
        self._readers = store.compactions.readers
        self._answer = Answer()
        self._slices = slices(store, query, self._answer)

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
