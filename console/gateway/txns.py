"""Transactions on the wire."""

from __future__ import annotations

from console.gateway import wire
from console.keys.txn import Answer, Delete, Get, Guard, Operation, Put, Txn, TxnResult
from kvserver.proto import rpc_pb2

SIGNS = {
    "=": rpc_pb2.Compare.EQUAL,
    "!=": rpc_pb2.Compare.NOT_EQUAL,
    ">": rpc_pb2.Compare.GREATER,
    "<": rpc_pb2.Compare.LESS,
}
FIELDS = {"mod": "mod_revision", "create": "create_revision"}


def txn_request(txn: Txn) -> rpc_pb2.TxnRequest:
    return rpc_pb2.TxnRequest(
        compare=[_compare(guard) for guard in txn.guards],
        success=[_operation(one) for one in txn.then],
        failure=[_operation(one) for one in txn.otherwise],
    )


def txn_result(txn: Txn, response: rpc_pb2.TxnResponse) -> TxnResult:
    done = txn.then if response.succeeded else txn.otherwise
    answers = [_answer(one, said) for one, said in zip(done, response.responses, strict=True)]
    return TxnResult(response.succeeded, response.header.revision, tuple(answers))


def _compare(guard: Guard) -> rpc_pb2.Compare:
    compare = rpc_pb2.Compare(
        key=guard.key,
        range_end=guard.end,
        target=rpc_pb2.Compare.CompareTarget.Value(guard.target.upper()),
        result=SIGNS[guard.sign],
    )
    setattr(compare, FIELDS.get(guard.target, guard.target), guard.given)
    return compare


def _operation(one: Operation) -> rpc_pb2.RequestOp:
    if isinstance(one, Put):
        put = rpc_pb2.PutRequest(
            key=one.key, value=one.value, lease=one.lease, ignore_lease=one.keeps_lease
        )
        return rpc_pb2.RequestOp(request_put=put)
    if isinstance(one, Delete):
        delete = rpc_pb2.DeleteRangeRequest(key=one.key, range_end=one.end)
        return rpc_pb2.RequestOp(request_delete_range=delete)
    read = rpc_pb2.RangeRequest(
        key=one.key, range_end=one.end, limit=one.limit, keys_only=one.keys_only
    )
    return rpc_pb2.RequestOp(request_range=read)


def _answer(one: Operation, said: rpc_pb2.ResponseOp) -> Answer:
    if isinstance(one, Get):
        found = said.response_range
        keys = tuple(wire.key(kv, has_value=not one.keys_only) for kv in found.kvs)
        return Answer(one, keys, found.count)
    return Answer(one, (), said.response_delete_range.deleted)
