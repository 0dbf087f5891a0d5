"""What a request costs against the backend's quota (spec/kv.md L4)."""

from __future__ import annotations

from collections.abc import Iterable

from kvserver.limits import LEASE_COST_BYTES, PUT_COST_BYTES
from kvserver.proto import rpc_pb2

__all__ = ["LEASE_COST_BYTES", "put_cost", "txn_cost"]


def put_cost(request: rpc_pb2.PutRequest) -> int:
    return PUT_COST_BYTES + len(request.key) + len(request.value)


def txn_cost(request: rpc_pb2.TxnRequest) -> int:
    """The dearer branch, nested transactions included."""
    return max(_ops_cost(request.success), _ops_cost(request.failure))


def _ops_cost(ops: Iterable[rpc_pb2.RequestOp]) -> int:
    total = 0
    for op in ops:
        kind = op.WhichOneof("request")
        if kind == "request_put":
            total += put_cost(op.request_put)
        elif kind == "request_txn":
            total += txn_cost(op.request_txn)
    return total
