"""etcd's `trace[n] put` lines: what a request of the store was about that took longer than a tenth
of a second, and when (spec/observability.md §6).

etcd's lines hold the steps of a request too. Here nothing is timed while a request is under way, so
that all others pay nothing; the list of steps is there and empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from kvserver.clock import Clock
from kvserver.config.durations import format_duration
from kvserver.logs import Logger, timestamp
from kvserver.proto import rpc_pb2
from kvserver.services.request_stats import KV, LineBudget, parsed
from kvserver.transport.slow_calls import EndedCall

TRACE_SECONDS = 0.1
Fields = dict[str, object]


def _range(request: Any, response: Any) -> Fields:
    return {
        "range_begin": _text(request.key),
        "range_end": _text(request.range_end),
        "response_count": len(response.kvs),
        "response_revision": response.header.revision,
    }


def _put(request: Any, response: Any) -> Fields:
    return {
        "key": _text(request.key),
        "req_size": request.ByteSize(),
        "response_revision": response.header.revision,
    }


def _delete_range(request: Any, response: Any) -> Fields:
    return {
        "key": _text(request.key),
        "range_end": _text(request.range_end),
        "number_of_response": response.deleted,
        "response_revision": response.header.revision,
    }


def _txn(request: Any, response: Any) -> Fields:
    is_read_only = not any(
        op.HasField("request_put") or op.HasField("request_delete_range")
        for op in (*request.success, *request.failure)
    )
    return {
        "read_only": str(is_read_only).lower(),
        "response_revision": response.header.revision,
        "number_of_response": len(response.responses),
    }


def _compact(request: Any, response: Any) -> Fields:
    return {"revision": request.revision, "response_revision": response.header.revision}


TRACED: dict[str, tuple[str, type[Message], type[Message], Callable[[Any, Any], Fields]]] = {
    KV + "Range": ("range", rpc_pb2.RangeRequest, rpc_pb2.RangeResponse, _range),
    KV + "Put": ("put", rpc_pb2.PutRequest, rpc_pb2.PutResponse, _put),
    KV + "DeleteRange": (
        "delete_range",
        rpc_pb2.DeleteRangeRequest,
        rpc_pb2.DeleteRangeResponse,
        _delete_range,
    ),
    KV + "Txn": ("transaction", rpc_pb2.TxnRequest, rpc_pb2.TxnResponse, _txn),
    KV + "Compact": ("compact", rpc_pb2.CompactionRequest, rpc_pb2.CompactionResponse, _compact),
}


class RequestTraces:
    """Told of slow unary calls; the store's leave a line. Owner: the loop."""

    def __init__(self, clock: Clock, log: Logger) -> None:
        self._clock = clock
        self._log = log
        self._budget = LineBudget(clock)
        self._number = 0

    def tell(self, call: EndedCall) -> None:
        traced = TRACED.get(call.path)
        if traced is None or call.took_seconds < TRACE_SECONDS or not self._budget.allows():
            return
        operation, request_type, response_type, fields_of = traced
        fields = fields_of(
            parsed(request_type, call.request), parsed(response_type, call.response or b"")
        )
        end = self._clock.wall()
        self._number += 1
        self._log.info(
            f"trace[{self._number}] {operation}",
            detail="{" + "".join(f"{name}:{value}; " for name, value in fields.items()) + "}",
            duration=format_duration(call.took_seconds),
            start=timestamp(end - call.took_seconds),
            end=timestamp(end),
            steps=[],
            step__count=0,
            **self._budget.take_left_out(),
        )


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
