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


class LineBudget:
    """Where everything is slow the lines must not make it slower. Owner: the loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = 0
        self._told = 0
        self._left_out = 0

    def allows(self) -> bool:
        """Whether one more line may be written this second."""
        second = int(self._clock.monotonic())
        if second != self._second:
            self._second, self._told = second, 0
        self._told += 1
        if self._told <= LINES_PER_SECOND_MAX:
            return True
        self._left_out += 1
        return False

    def take_left_out(self) -> dict[str, int]:
        """A field about the lines that were not written since the last one."""
        left_out, self._left_out = self._left_out, 0
        return {"requests left out": left_out} if left_out else {}


class RequestStats:
    """Told of unary calls: those that took longer than `--warning-unary-request-duration` are
    warned of, all others are for who reads at level debug."""

    def __init__(
        self, clock: Clock, log: Logger, warning_seconds: float, *, tells_all: bool = False
    ) -> None:
        """0 seconds: nothing warns."""
        self._clock = clock
        self._log = log
        self._warning_seconds = warning_seconds
        self._tells_all = tells_all
        self._budget = LineBudget(clock)

    def tell(self, call: EndedCall) -> None:
        is_slow = 0 < self._warning_seconds <= call.took_seconds
        if not (self._budget.allows() if is_slow else self._tells_all):
            return
        request_count = response_count = UNKNOWN
        content = ""
        types = COUNTED.get(call.path)
        if types is not None:
            request_type, response_type, count = types
            request = parsed(request_type, call.request)
            content = redacted(request)
            answer = parsed(response_type, call.response or b"")
            request_count, response_count = count(request, answer)
        write = self._log.warn if is_slow else self._log.debug
        write(
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
                **(self._budget.take_left_out() if is_slow else {}),
            },
        )


def parsed(message: type[M], body: bytes) -> M:
    try:
        return message.FromString(body)
    except DecodeError:
        return message()  # a request that was refused for this very reason
