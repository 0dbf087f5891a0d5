"""How many files this process may hold open, and how many of those clients may have.

A connection too many is one client's trouble; a log segment that cannot be opened is everybody's.
So some are kept from the clients, as many as etcd keeps.
"""

from __future__ import annotations

import contextlib
import resource

from kvserver.errors import FatalError

RESERVED = 150


def raise_limit() -> int:
    """The soft limit, raised to the hard one where the system lets us, as Go's runtime does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 2**31 - 1


def connections_max(limit: int) -> int:
    """Raises `FatalError` where nothing would be left for clients."""
    if limit <= RESERVED:
        raise FatalError(
            "file descriptor limit of etcd process is too low; please set higher: "
            f"limit {limit}, recommended more than {RESERVED}"
        )
    return limit - RESERVED
