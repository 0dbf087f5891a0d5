"""What a gRPC status becomes over HTTP (spec/wire-api.md §4.3, §4.4; the form of etcd 3.6)."""

from __future__ import annotations

import json
from typing import Any

from kvserver.errors import Code
from kvserver.transport import HttpResponse

JSON = {"Content-Type": "application/json"}
GOOD = JSON | {"Grpc-Metadata-Content-Type": "application/grpc"}

HTTP_STATUS: dict[int, int] = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
}


def refusal(code: int, message: str, status: int | None = None) -> HttpResponse:
    """The answer of a call that failed, or that never was one."""
    headers = JSON
    if code == Code.UNAUTHENTICATED:
        headers = JSON | {"WWW-Authenticate": message}
    body = _dump({"code": int(code), "message": message})
    return HttpResponse(status or HTTP_STATUS.get(code, 500), headers, body)


def not_found() -> HttpResponse:
    return refusal(Code.NOT_FOUND, "Not Found")


def not_allowed() -> HttpResponse:
    return refusal(Code.UNIMPLEMENTED, "Method Not Allowed")


def stream_error(code: int, message: str) -> bytes:
    """The last line of a stream that failed."""
    return _dump({"error": {"code": int(code), "message": message}}) + b"\n"


def refused_stream(code: int, message: str) -> HttpResponse:
    """A stream that failed before its first message."""
    return HttpResponse(HTTP_STATUS.get(code, 500), JSON, stream_error(code, message))


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
