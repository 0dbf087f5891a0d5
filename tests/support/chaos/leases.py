"""A client whose keys live on leases: granted, renewed for a while, then revoked or left alone.

Its keys (`lease/…`) are changed by nobody else, so whatever deletes one of them is the end of its
lease. That end may come by itself: in the history it is a revoke of unknown outcome, sent with
the grant.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.chaos.load import CALL_SECONDS_MAX, Caller
from tests.support.linearizability import Operation

PREFIX = b"lease/"
PAUSE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Renewal:
    """The lease was granted or renewed for `ttl_seconds` at some time after `sent`."""

    lease: int
    sent: float
    ttl_seconds: int


class Lessee(threading.Thread):
    def __init__(self, caller: Caller, stopping: threading.Event) -> None:
        super().__init__(name=caller.name, daemon=True)
        self.renewals: list[Renewal] = []
        self.revoked: set[int] = set()
        self._caller = caller
        self._dice = caller.dice
        self._stopping = stopping
        self._number = 0

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._live()
                self._stopping.wait(PAUSE_SECONDS)
        finally:
            self._caller.close()

    def _live(self) -> None:
        """The whole life of one lease, as far as this client has a part in it."""
        caller, sent = self._caller, self._caller.book.now()
        request = rpc.LeaseGrantRequest(TTL=self._dice.randint(2, 4))
        granted = caller.call(lambda channel: services.LeaseStub(channel).LeaseGrant, request)
        if granted is None:
            return
        self.renewals.append(Renewal(granted.ID, sent, granted.TTL))
        caller.book.add(Operation("lessor", "", rpc.LeaseRevokeRequest(ID=granted.ID), sent))
        for _ in range(2):
            self._number += 1
            key = PREFIX + f"{caller.name}-{self._number}".encode()
            put = rpc.PutRequest(key=key, value=b"%d" % granted.ID, lease=granted.ID)
            caller.call(lambda channel: services.KVStub(channel).Put, put)
        for _ in range(self._dice.randrange(5)):
            self._stopping.wait(PAUSE_SECONDS)
            self._renew(granted.ID)
        if self._dice.random() < 0.3:
            self.revoked.add(granted.ID)
            revoke = rpc.LeaseRevokeRequest(ID=granted.ID)
            caller.call(lambda channel: services.LeaseStub(channel).LeaseRevoke, revoke)

    def _renew(self, lease: int) -> None:
        sent = self._caller.book.now()
        stub = services.LeaseStub(self._caller.channel())
        requests = iter([rpc.LeaseKeepAliveRequest(ID=lease)])
        answers: Any = stub.LeaseKeepAlive(requests, timeout=CALL_SECONDS_MAX)
        try:
            answer = next(_answers(answers), None)
        except grpc.RpcError:
            self._caller.move_on()
            return
        finally:
            answers.cancel()
        if answer is not None and answer.TTL > 0:
            self.renewals.append(Renewal(lease, sent, answer.TTL))


def _answers(stream: Any) -> Iterator[rpc.LeaseKeepAliveResponse]:
    yield from stream
