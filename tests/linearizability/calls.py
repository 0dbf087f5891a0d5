"""Requests in few words, and a store that answers them: true histories to spoil."""

from __future__ import annotations

from typing import Any

from kvserver.proto import kv_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.linearizability.brute_force import run
from tests.support.linearizability import Operation
from tests.support.linearizability.timeline import as_events
from tests.support.model import Model, Record


def put(key: bytes, value: bytes, **fields: Any) -> rpc.PutRequest:
    return rpc.PutRequest(key=key, value=value, **fields)


def get(key: bytes, end: bytes = b"", **fields: Any) -> rpc.RangeRequest:
    return rpc.RangeRequest(key=key, range_end=end, **fields)


def local(key: bytes, end: bytes = b"") -> rpc.RangeRequest:
    return get(key, end, serializable=True)


def delete(key: bytes, end: bytes = b"", **fields: Any) -> rpc.DeleteRangeRequest:
    return rpc.DeleteRangeRequest(key=key, range_end=end, **fields)


def swap(key: bytes, revision: int, value: bytes) -> rpc.TxnRequest:
    """Put if the key was last changed at `revision`, else read it."""
    return rpc.TxnRequest(
        compare=[rpc.Compare(key=key, target=rpc.Compare.MOD, mod_revision=revision)],
        success=[rpc.RequestOp(request_put=put(key, value))],
        failure=[rpc.RequestOp(request_range=get(key))],
    )


class Scene:
    """One call after the other on one true store; each takes one unit of time."""

    def __init__(self) -> None:
        self.model = Model()
        self.history: list[Operation] = []
        self.now = 0.0

    def call(
        self, request: Any, *, member: str = "m0", is_told: bool = True, happens: bool = True
    ) -> Operation:
        """Done and answered, unless it does not happen or nobody is told."""
        answer = run(self.model, request) if happens else None
        if answer is not None:
            answer.header.revision = self.model.revision
        invoked, self.now = self.now, self.now + 1
        if is_told:
            operation = Operation("c", member, request, invoked, invoked + 0.5, answer)
        else:
            operation = Operation("c", member, request, invoked)
        self.history.append(operation)
        return operation

    def events(self) -> dict[int, list[kv_pb2.Event]]:
        log: dict[int, list[Record]] = {}
        for record in self.model.stored:
            log.setdefault(record.main, []).append(record)
        return {revision: as_events(records) for revision, records in log.items()}
