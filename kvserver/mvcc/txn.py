"""Transactions: choose the path, check all of it, then run it (spec/kv.md §8.3).

Three passes, so that a transaction fails before its first change or not at all: every compare of
the chosen path against the state before (T9), every check of the chosen path in op order (T10),
then the ops in list order at one revision (T11).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kvserver.errors import Compacted, FutureRev
from kvserver.mvcc.compare import compare_holds
from kvserver.mvcc.kv_codec import length_delimited, varint
from kvserver.mvcc.range import NEWEST, RangeQuery, range_body
from kvserver.proto import rpc_pb2

if TYPE_CHECKING:
    from kvserver.mvcc.store import Store

PUT: Final = "request_put"
RANGE: Final = "request_range"
DELETE: Final = "request_delete_range"
TXN: Final = "request_txn"

Path = tuple[bool, list[tuple[str, Any]]]
"""Whether the compares hold, and the ops of that branch: kind and request; a nested transaction's
request is its Path."""

EMPTY_HEADER: Final = b"\x0a\x00"
"""Present but empty, as in every nested transaction's response (H3)."""


def run_txn(store: Store, request: rpc_pb2.TxnRequest) -> bytes:
    """Apply a transaction; returns its body. The store's revision moves if anything changed."""
    path = choose(store, request)
    check(store, path)
    run = _Run(store)
    body = run.body(path)
    if run.sub:
        store.revision = run.main
    return body


def choose(store: Store, request: rpc_pb2.TxnRequest) -> Path:
    """T9. The lists are read before anything changes, so no compare sees this transaction."""
    succeeded = True
    for compare in request.compare:
        if not compare_holds(store, compare):
            succeeded = False
            break
    ops: list[tuple[str, Any]] = []
    for op in request.success if succeeded else request.failure:
        kind = op.WhichOneof("request")
        operation = getattr(op, kind)
        ops.append((kind, choose(store, operation) if kind == TXN else operation))
    return succeeded, ops


def check(store: Store, path: Path) -> None:
    """T10: the first failure in op order is the transaction's."""
    for kind, request in path[1]:
        if kind == PUT:
            store.check_put_against_state(request)
        elif kind == RANGE:
            revision = request.revision
            if revision:
                if revision > store.revision:
                    raise FutureRev
                if revision < store.compact_revision:
                    raise Compacted
        elif kind == TXN:
            check(store, request)


class _Run:
    """The third pass. `sub` counts the changes so far."""

    __slots__ = ("_store", "main", "sub")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.main = store.revision + 1
        self.sub = 0

    def body(self, path: Path) -> bytes:
        """A TxnResponse without its header. Each response is wrapped as a ResponseOp."""
        succeeded, ops = path
        parts = [b"\x10\x01"] if succeeded else []
        for kind, request in ops:
            if kind == PUT:
                tag, response = b"\x12", self._put(request)
            elif kind == RANGE:
                tag, response = b"\x0a", self._range(request)
            elif kind == DELETE:
                tag, response = b"\x1a", self._delete(request)
            else:
                tag, response = b"\x22", EMPTY_HEADER + self.body(request)
            parts.append(length_delimited(b"\x1a", length_delimited(tag, response)))
        return b"".join(parts)

    def _header(self, revision: int) -> bytes:
        """H3: a sub-response's header holds only the revision."""
        return length_delimited(b"\x0a", b"\x18" + varint(revision))

    def _seen_revision(self) -> int:
        return self.main if self.sub else self.main - 1

    def _put(self, request: rpc_pb2.PutRequest) -> bytes:
        response = self._store.put_op(request, self.main, self.sub)
        self.sub += 1
        return self._header(self.main) + response

    def _range(self, request: rpc_pb2.RangeRequest) -> bytes:
        revision = request.revision
        query = RangeQuery(request, revision if revision > 0 else NEWEST, is_past=self.sub > 0)
        self._store.counters.ranges += 1
        return self._header(self._seen_revision()) + range_body(self._store, query)

    def _delete(self, request: rpc_pb2.DeleteRangeRequest) -> bytes:
        deleted, response = self._store.delete_op(request, self.main, self.sub)
        self.sub += deleted
        return self._header(self._seen_revision()) + response
