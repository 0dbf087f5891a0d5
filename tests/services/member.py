"""One member for the tests of a module, and what they ask of it besides the service under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from kvserver.proto import (
    election_pb2_grpc,
    kv_pb2,
    lock_pb2_grpc,
    rpc_pb2,
    rpc_pb2_grpc,
)
from tests.support.servers_proc import ServerProcess, wait_until

SECONDS_MAX = 60.0
"""Only an upper bound for a test that hangs."""


class Asker:
    """A client. Leases are granted with the ids that the spec's examples name."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(server.endpoint)
        self.kv = rpc_pb2_grpc.KVStub(self.channel)
        self.lease = rpc_pb2_grpc.LeaseStub(self.channel)
        self.lock = lock_pb2_grpc.LockStub(self.channel)
        self.election = election_pb2_grpc.ElectionStub(self.channel)

    def grant(self, *ids: int) -> None:
        for lease_id in ids:
            self.lease.LeaseGrant(rpc_pb2.LeaseGrantRequest(ID=lease_id, TTL=600))

    def revoke(self, lease_id: int) -> None:
        self.lease.LeaseRevoke(rpc_pb2.LeaseRevokeRequest(ID=lease_id))

    def kvs(self, prefix: bytes) -> dict[bytes, kv_pb2.KeyValue]:
        end = prefix[:-1] + bytes((prefix[-1] + 1,))
        response = self.kv.Range(rpc_pb2.RangeRequest(key=prefix, range_end=end))
        return {kv.key: kv for kv in response.kvs}

    def revision(self) -> int:
        return self.kv.Range(rpc_pb2.RangeRequest(key=b"?")).header.revision

    def until_there(self, key: bytes) -> None:
        prefix = key[: key.index(b"/") + 1]
        wait_until(lambda: key in self.kvs(prefix), SECONDS_MAX, f"{key!r} is there")

    def until_gone(self, key: bytes) -> None:
        prefix = key[: key.index(b"/") + 1]
        wait_until(lambda: key not in self.kvs(prefix), SECONDS_MAX, f"{key!r} is gone")


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("it was not refused")
