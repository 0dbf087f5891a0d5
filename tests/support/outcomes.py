"""Which errors say that a call surely did not happen; after all others nobody knows.

A write that is wrongly taken for undone would be called a violation when it shows, so what is not
listed here is of unknown outcome: time-outs, broken connections, a member that stops, a lost
leader (spec/kv.md E3 to E6), and a full quota, which may be noticed after the write (L5).
"""

from __future__ import annotations

import grpc

REFUSING_CODES = frozenset(
    {
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "OUT_OF_RANGE",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "UNIMPLEMENTED",
    }
)
REFUSING_TEXTS = (
    "etcdserver: corrupt cluster",
    "etcdserver: no leader",
    "etcdserver: rpc not supported for learner",
    "etcdserver: too many requests",
    "raft proposal dropped",
)
NEVER_SENT = "failed to connect to all addresses"
"""What gRPC's client says when there was no connection to send it on."""


def is_refusal(code: str, text: str) -> bool:
    """`code` by its name (`NOT_FOUND`), `text` as the server or gRPC's client gave it."""
    if code in REFUSING_CODES or text in REFUSING_TEXTS:
        return True
    return code == "UNAVAILABLE" and NEVER_SENT in text


def is_refused(error: grpc.RpcError) -> bool:
    return is_refusal(error.code().name, error.details() or "")
