"""Static rules of requests: what is refused before it reaches the log (spec/kv.md P1, K5, §8.1).

Nothing here looks at the store, so every member and every branch gets the same verdict (T5).
"""

from __future__ import annotations

from collections.abc import Iterable

from kvserver.errors import (
    DuplicateKey,
    EmptyKey,
    KeyNotFound,
    LeaseProvided,
    TooManyOps,
    ValueProvided,
)
from kvserver.mvcc.range import check_range
from kvserver.proto import rpc_pb2

Ops = Iterable[rpc_pb2.RequestOp]
Interval = tuple[bytes, bytes]
"""[first, end) of a delete."""


def check_put(request: rpc_pb2.PutRequest) -> None:
    if not request.key:
        raise EmptyKey
    if request.ignore_value and request.value:
        raise ValueProvided
    if request.ignore_lease and request.lease:
        raise LeaseProvided


def check_delete(request: rpc_pb2.DeleteRangeRequest) -> None:
    if not request.key:
        raise EmptyKey


def check_txn(request: rpc_pb2.TxnRequest, ops_max: int) -> None:
    """T1 to T4: the size and the ops of every level, then duplicate keys on the whole."""
    if _check_level(request, ops_max) > 1:
        _changes(request.success)
        _changes(request.failure)


def txn_is_read_only(request: rpc_pb2.TxnRequest) -> bool:
    """T6: every op of both branches is a Range."""
    # Hot: plain loops, because a generator costs more than the one or two ops it walks over.
    for op in request.success:
        if op.WhichOneof("request") != "request_range":
            return False
    for op in request.failure:  # noqa: SIM110
        if op.WhichOneof("request") != "request_range":
            return False
    return True


def txn_is_serializable(request: rpc_pb2.TxnRequest) -> bool:
    """T7, for a read-only transaction: local state may answer it. True when it has no ops."""
    return all(
        op.request_range.serializable for ops in (request.success, request.failure) for op in ops
    )


def _check_level(request: rpc_pb2.TxnRequest, budget: int) -> int:
    """Returns how many ops change something, in all branches: one alone has no duplicate."""
    compares, success, failure = request.compare, request.success, request.failure
    count = max(len(compares), len(success), len(failure))
    if count > budget:
        raise TooManyOps
    for compare in compares:
        if not compare.key:
            raise EmptyKey
    changes = 0
    for op in success:
        changes += _check_op(op, budget - count)
    for op in failure:
        changes += _check_op(op, budget - count)
    return changes


def _check_op(op: rpc_pb2.RequestOp, budget: int) -> int:
    kind = op.WhichOneof("request")
    if kind == "request_put":
        check_put(op.request_put)
    elif kind == "request_range":
        check_range(op.request_range)
        return 0
    elif kind == "request_delete_range":
        check_delete(op.request_delete_range)
    elif kind == "request_txn":
        return _check_level(op.request_txn, budget)
    else:
        raise KeyNotFound  # T3
    return 1


def _changes(ops: Ops) -> tuple[set[bytes], list[Interval]]:
    """The keys a list of ops may put and the intervals it may delete; DuplicateKey when it changes
    a key twice. The order of these steps is the rule T4, quirks included."""
    own_puts: list[bytes] = []
    deleted: list[Interval] = []
    children: list[rpc_pb2.TxnRequest] = []
    for op in ops:
        kind = op.WhichOneof("request")
        if kind == "request_put":
            own_puts.append(op.request_put.key)
        elif kind == "request_delete_range":
            deleted.append(_deleted_by(op.request_delete_range))
        elif kind == "request_txn":
            children.append(op.request_txn)
    put: set[bytes] = set()
    for child in children:
        success_put, success_deleted = _changes(child.success)
        failure_put, failure_deleted = _changes(child.failure)
        child_put = success_put | failure_put
        _refuse_duplicates(child_put, put, deleted)
        put |= child_put
        deleted += success_deleted
        deleted += failure_deleted
    for key in own_puts:
        _refuse_duplicates((key,), put, deleted)
        put.add(key)
    return put, deleted


def _deleted_by(request: rpc_pb2.DeleteRangeRequest) -> Interval:
    """An open end (NUL) gives an empty interval: it overlaps nothing (T4)."""
    key = request.key
    return key, request.range_end or key + b"\0"


def _refuse_duplicates(keys: Iterable[bytes], put: set[bytes], deleted: list[Interval]) -> None:
    for key in keys:
        if key in put or any(first <= key < end for first, end in deleted):
            raise DuplicateKey
