"""What is taken for undone is what the server promises to be undone (spec/kv.md §16, E3 to E6)."""

from __future__ import annotations

import pytest

from tests.support.outcomes import is_refusal


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("INVALID_ARGUMENT", "etcdserver: key is not provided"),
        ("NOT_FOUND", "etcdserver: requested lease not found"),
        ("UNAVAILABLE", "etcdserver: no leader"),
        ("UNKNOWN", "etcdserver: too many requests"),
        ("UNKNOWN", "raft proposal dropped"),
        ("UNAVAILABLE", "failed to connect to all addresses; last error: refused"),
    ],
)
def test_refusals(code: str, text: str) -> None:
    assert is_refusal(code, text)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("UNAVAILABLE", "etcdserver: request timed out, possibly due to previous leader failure"),
        ("UNAVAILABLE", "etcdserver: server stopped"),
        ("UNAVAILABLE", "Socket closed"),
        ("DEADLINE_EXCEEDED", "context deadline exceeded"),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded"),
        ("CANCELLED", ""),
    ],
)
def test_unknown_outcomes(code: str, text: str) -> None:
    assert not is_refusal(code, text)
