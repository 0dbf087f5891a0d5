"""File descriptors: raised, and some kept from the clients (spec/config.md §4)."""

from __future__ import annotations

import resource

import pytest

from kvserver.descriptors import RESERVED, connections_max, raise_limit
from kvserver.errors import FatalError


def test_some_are_kept_from_the_clients() -> None:
    assert connections_max(1024) == 1024 - RESERVED
    assert connections_max(RESERVED + 1) == 1
    with pytest.raises(FatalError, match="file descriptor limit of etcd process is too low"):
        connections_max(RESERVED)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    soft, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        limit = raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert limit in (hard, 2**31 - 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
