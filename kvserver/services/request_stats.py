"""The log line of a slow request: what was asked and answered, without values
(spec/observability.md §6; counts as etcd counts them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from kvserver.apply.redacted import redacted
from kvserver.clock import Clock
from kvserver.logs import Logger, timestamp
from kvserver.proto import rpc_pb2
from kvserver.transport.slow_calls import EndedCall

M = TypeVar("M", bound=Message)
UNKNOWN = -1
"""What is said of requests that nobody counts."""
LINES_PER_SECOND_MAX = 10


def _range(request: Any, response: Any) -> tuple[int, int]:
    return 0, response.count


def _put(request: Any, response: Any) -> tuple[int, int]:
    return 1, 0


def _delete_range(request: Any, response: Any) -> tuple[int, int]:
    return 0, response.deleted


def _txn(request: Any, response: Any) -> tuple[int, int]:
    return len(request.success if response.succeeded else request.failure), 0


Count = Callable[[Any, Any], tuple[int, int]]
KV = "/etcdserverpb.KV/"
COUNTED: dict[str, tuple[type[Message], type[Message], Count]] = {
    KV + "Range": (rpc_pb2.RangeRequest, rpc_pb2.RangeResponse, _range),
    KV + "Put": (rpc_pb2.PutRequest, rpc_pb2.PutResponse, _put),
    KV + "DeleteRange": (rpc_pb2.DeleteRangeRequest, rpc_pb2.DeleteRangeResponse, _delete_range),
    KV + "Txn": (rpc_pb2.TxnRequest, rpc_pb2.TxnResponse, _txn),
}


class RequestStats:
    """Told of every unary call that took longer than `--warning-unary-request-duration`."""

    def __init__(self, clock: Clock, log: Logger) -> None:
        self._clock = clock
        self._log = log
        self._second = 0
        self._told = 0
        self._left_out = 0

    def tell(self, call: EndedCall) -> None:
        if not self._may_tell():
            return
        request_count = response_count = UNKNOWN
        content = ""
        types = COUNTED.get(call.path)
        if types is not None:
            request_type, response_type, count = types
            request = _parsed(request_type, call.request)
            content = redacted(request)
            answer = _parsed(response_type, call.response or b"")
            request_count, response_count = count(request, answer)
        self._log.warn(
            "request stats",
            **{
                "start time": timestamp(self._clock.wall() - call.took_seconds),
                "time spent": call.took_seconds,
                "remote": call.peer,
                "response type": call.path,
                "request count": request_count,
                "request size": len(call.request),
                "response count": response_count,
                "response size": UNKNOWN if call.response is None else len(call.response),
                "request content": content,
                **({"requests left out": self._left_out} if self._left_out else {}),
            },
        )
        self._left_out = 0

    def _may_tell(self) -> bool:
        """Where everything is slow the lines must not make it slower."""
        second = int(self._clock.monotonic())
        if second != self._second:
            self._second, self._told = second, 0
        self._told += 1
        if self._told <= LINES_PER_SECOND_MAX:
            return True
        self._left_out += 1
        return False


def _parsed(message: type[M], body: bytes) -> M:
    try:
        return message.FromString(body)
    except DecodeError:
        return message()  # a request that was refused for this very reason
