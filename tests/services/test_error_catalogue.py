"""Every error that clients know, with its code and its text to the letter (spec/wire-api.md §5.1).

Clients tell errors apart by code or by text, so both are the interface.
"""

from __future__ import annotations

import pytest

from kvserver import errors
from kvserver.errors import Code, RequestError

PREFIX = "etcdserver: "
CATALOGUE: dict[Code, tuple[str, ...]] = {
    Code.INVALID_ARGUMENT: (
        "key is not provided",
        "key not found",
        "value is provided",
        "lease is provided",
        "too many operations in txn request",
        "duplicate key given in txn request",
        "invalid client api version",
        "invalid sort option",
        "given member URLs are invalid",
        "request is too large",
        "user name is empty",
        "role name is empty",
        "authentication failed, invalid user ID or password",
        "permission not given",
        "invalid auth management",
        "revision of auth store is old",
        "wrong downgrade target version format",
        "invalid downgrade target version",
    ),
    Code.OUT_OF_RANGE: (
        "mvcc: required revision has been compacted",
        "mvcc: required revision is a future revision",
        "too large lease TTL",
    ),
    Code.RESOURCE_EXHAUSTED: (
        "mvcc: database space exceeded",
        "too many requests",
    ),
    Code.NOT_FOUND: (
        "requested lease not found",
        "member not found",
    ),
    Code.FAILED_PRECONDITION: (
        "lease already exists",
        "member ID already exist",
        "Peer URLs already exists",
        "re-configuration failed due to not enough started members",
        "can only promote a learner member",
        "can only promote a learner member which is in sync with leader",
        "too many learner members in cluster",
        "cluster ID mismatch",
        "root user does not exist",
        "root user does not have root role",
        "user name already exists",
        "user name not found",
        "role name already exists",
        "role name not found",
        "role is not granted to the user",
        "permission is not granted to the role",
        "authentication is not enabled",
        "not leader",
        "not capable",
        "rpc not supported for learner",
        "bad leader transferee",
        "cluster version not found during downgrade",
        "cluster has a downgrade job in progress",
        "no inflight downgrade job",
    ),
    Code.CANCELLED: (
        "watch canceled",
        "request canceled",
    ),
    Code.PERMISSION_DENIED: ("permission denied",),
    Code.UNAUTHENTICATED: ("invalid auth token",),
    Code.UNAVAILABLE: (
        "no leader",
        "leader changed",
        "server stopped",
        "request timed out",
        "request timed out, possibly due to previous leader failure",
        "request timed out, possibly due to connection lost",
        "request timed out, waiting for the applied index took too long",
        "unhealthy cluster",
    ),
    Code.DATA_LOSS: ("corrupt cluster",),
    Code.DEADLINE_EXCEEDED: ("context deadline exceeded",),
}
ON_THE_WIRE = {
    "too many requests": Code.UNKNOWN,
    "re-configuration failed due to not enough started members": Code.UNKNOWN,
}
"""§5.2: etcd's handlers return a client's error there, which is no status."""


def declared() -> dict[str, type[RequestError]]:
    """By text."""
    classes = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, RequestError) and kind.message
    ]
    found = {kind.message: kind for kind in classes}
    assert len(found) == len(classes), "two errors have one text"
    return found


ROWS = [(code, text) for code, texts in CATALOGUE.items() for text in texts]


@pytest.mark.parametrize(("code", "text"), ROWS, ids=[text for _, text in ROWS])
def test_code_and_text(code: Code, text: str) -> None:
    assert declared()[PREFIX + text].code is ON_THE_WIRE.get(text, code)


def test_there_are_no_others() -> None:
    """63 in all; what is no error of etcd's is not called one."""
    assert len(ROWS) == 63
    assert set(declared()) == {PREFIX + text for _, text in ROWS}
