"""What a request demands: one recursive function over every kind of request that touches keys.

Every path to a key goes through here, so that a nested put, a `prev_kv` or a lease that holds
somebody else's key cannot be forgotten on one of them (spec/auth.md §3, traps 1-3, 11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kvserver.proto import rpc_pb2

READ, WRITE = False, True
Demand = tuple[bool, bytes, bytes]
"""(is a write, key, range_end)."""
LeaseKeys = Callable[[int], list[bytes]]
"""The keys attached to a lease; none of an unknown one."""


def demands(request: Any, lease_keys: LeaseKeys) -> Iterator[Demand]:
    """The permissions on single ranges that a request needs, all of them."""
    kind = type(request)
    if kind is rpc_pb2.PutRequest:
        yield WRITE, request.key, b""
        if request.lease:
            # Whoever may not revoke the lease may not tie more keys to it.
            for key in lease_keys(request.lease):
                yield WRITE, key, b""
        if request.prev_kv:
            yield READ, request.key, b""
    elif kind is rpc_pb2.RangeRequest or kind is rpc_pb2.WatchCreateRequest:
        yield READ, request.key, request.range_end
    elif kind is rpc_pb2.DeleteRangeRequest:
        yield WRITE, request.key, request.range_end
        if request.prev_kv:
            yield READ, request.key, request.range_end
    elif kind is rpc_pb2.TxnRequest:
        for compare in request.compare:
            yield READ, compare.key, compare.range_end
        for branch in (request.success, request.failure):  # both, whichever will run
            for op in branch:
                name = op.WhichOneof("request")
                if name is not None:
                    yield from demands(getattr(op, name), lease_keys)
    elif kind is rpc_pb2.LeaseRevokeRequest or kind is rpc_pb2.LeaseKeepAliveRequest:
        for key in lease_keys(request.ID):
            yield WRITE, key, b""
    elif kind is rpc_pb2.LeaseTimeToLiveRequest:
        if request.keys:
            for key in lease_keys(request.ID):
                yield READ, key, b""
    else:
        raise TypeError(f"nobody has said what a {kind.__name__} demands")
