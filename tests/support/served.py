"""Which methods a member serves: what a release does not have yet is skipped by asking."""

from __future__ import annotations

import grpc
import pytest

from tests.support.servers_proc import ServerProcess

UNDECODABLE = b"\x0a\x7fabc"
"""A served method answers that it cannot read this, and does nothing."""
PROBE_SECONDS_MAX = 60.0


def serves(member: ServerProcess, path: str) -> bool:
    with grpc.insecure_channel(member.endpoint) as channel:
        try:
            for _ in channel.unary_stream(path)(UNDECODABLE, timeout=PROBE_SECONDS_MAX):
                pass
        except grpc.RpcError as error:
            return error.code() != grpc.StatusCode.UNIMPLEMENTED
    return True


def skip_unless_served(member: ServerProcess, *paths: str) -> None:
    """Skip the test that is running when one of the methods is not there."""
    missing = [path for path in paths if not serves(member, path)]
    if missing:
        pytest.skip(f"not served yet: {', '.join(missing)}")
