"""HTTP headers as the metadata of a call (spec/wire-api.md §4.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kvserver.errors import Code, RequestError
from kvserver.transport import HttpRequest

METADATA_PREFIX = "grpc-metadata-"
GATEWAY_PREFIX = "grpcgateway-"
TIMEOUT_SECONDS_MAX = 1e9

PERMANENT = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-language",
        "accept-ranges",
        "authorization",
        "cache-control",
        "content-type",
        "cookie",
        "date",
        "expect",
        "from",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-schedule-tag-match",
        "if-unmodified-since",
        "max-forwards",
        "origin",
        "pragma",
        "referer",
        "user-agent",
        "via",
        "warning",
    }
)
"""Header fields that reach the metadata under a prefix."""

_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"([0-9]{1,18})([HMSmun])")


def metadata_of(request: HttpRequest) -> Mapping[str, str | bytes]:
    """`grpcgateway-accept` is always there: it is by this that auth knows a gateway's call, whose
    client certificate names nobody."""
    metadata: dict[str, str | bytes] = {GATEWAY_PREFIX + "accept": ""}
    for name, value in request.headers.items():
        if name in PERMANENT:
            metadata[GATEWAY_PREFIX + name] = value
        elif name.startswith(METADATA_PREFIX):
            metadata[name[len(METADATA_PREFIX) :]] = value
    headers = request.headers
    if "authorization" in headers:
        metadata["authorization"] = headers["authorization"]
    metadata["x-forwarded-host"] = headers.get("host", "")
    forwarded = headers.get("x-forwarded-for")
    address = request.peer.address.rpartition(":")[0]
    metadata["x-forwarded-for"] = f"{forwarded}, {address}" if forwarded else address
    return metadata


def timeout_of(request: HttpRequest) -> float | None:
    """Seconds of `Grpc-Timeout`. Raises `RequestError` for text that is none."""
    text = request.headers.get("grpc-timeout")
    if not text:
        return None
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise RequestError(f"invalid grpc-timeout: {text}", Code.INVALID_ARGUMENT)
    return min(int(match[1]) * _UNIT_SECONDS[match[2]], TIMEOUT_SECONDS_MAX)
