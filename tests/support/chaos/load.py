"""Clients that write and read, one call after the other, and note what they were told.

A client stays with a member while that answers, and goes to another one when it does not. A call
that failed is never sent again: whatever it asked is unknown, or was refused (outcomes.py).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import grpc

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.chaos.cluster import ChaosCluster, ChaosMember
from tests.support.linearizability import Operation
from tests.support.linearizability.history import kvs_shown
from tests.support.outcomes import is_refused

CALL_SECONDS_MAX = 2.0
KEYS = [b"k%02d" % number for number in range(12)]
ALL_KEYS = (b"k", b"l")
PAUSE_SECONDS_MAX = 0.03
FAILURE_PAUSE_SECONDS = 0.05
CLIENTS = 6
READS = (rpc.RangeRequest,)


class Book:
    """All that was asked and answered, by one clock. Owner: its lock."""

    def __init__(self) -> None:
        self.began = monotonic()
        self._operations: list[Operation] = []
        self._acknowledged = 0
        self._lock = threading.Lock()

    def now(self) -> float:
        return monotonic() - self.began

    def add(self, operation: Operation) -> None:
        with self._lock:
            self._operations.append(operation)
            self._acknowledged += operation.is_acknowledged

    @property
    def acknowledged(self) -> int:
        return self._acknowledged

    def take(self) -> list[Operation]:
        """Everything so far; the next one takes what comes after."""
        with self._lock:
            taken, self._operations = self._operations, []
        return taken


class Caller:
    """Calls of one client. `member` is where the next one goes."""

    def __init__(self, name: str, cluster: ChaosCluster, book: Book, dice: random.Random) -> None:
        self.name = name
        self.book = book
        self.dice = dice
        self._cluster = cluster
        self._channels: dict[str, grpc.Channel] = {}
        self._member: ChaosMember | None = None

    @property
    def member(self) -> ChaosMember:
        if self._member is None or self._member not in self._cluster.members:
            self._member = self.dice.choice(self._cluster.members)
        return self._member

    def move_on(self) -> None:
        others = [each for each in self._cluster.members if each is not self._member]
        self._member = self.dice.choice(others) if others else None

    def channel(self) -> grpc.Channel:
        endpoint = self.member.process.endpoint
        if endpoint not in self._channels:
            options = [
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 200),
                # Of its own, or clients of one process would share connections.
                ("grpc.use_local_subchannel_pool", 1),
            ]
            self._channels[endpoint] = grpc.insecure_channel(endpoint, options=options)
        return self._channels[endpoint]

    def call(self, pick: Callable[[grpc.Channel], Any], request: Any) -> Any:
        """The answer, or None; both are in the book."""
        method, label = pick(self.channel()), self.member.label
        member, invoked = self.member, self.book.now()
        try:
            answer = method(request, timeout=CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            self.move_on()
            if not isinstance(request, READS):
                self._note_failure(label, request, invoked, error)
            return None
        completed = self.book.now()
        if member.label != label:
            label = f"{label} or {member.label} {invoked}"
        self.book.add(Operation(self.name, label, request, invoked, completed, answer))
        return answer

    def _note_failure(self, label: str, request: Any, invoked: float, error: grpc.RpcError) -> None:
        refused = is_refused(error)
        ended = self.book.now() if refused else None
        self.book.add(Operation(self.name, label, request, invoked, ended, is_refused=refused))

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()


class Client(threading.Thread):
    """Random calls until told to stop."""

    def __init__(self, caller: Caller, stopping: threading.Event) -> None:
        super().__init__(name=caller.name, daemon=True)
        self.succeeded = 0
        self._caller = caller
        self._dice = caller.dice
        self._stopping = stopping
        self._number = 0
        self._seen: dict[bytes, int] = {}

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                pick, request = self._invent()
                answer = self._caller.call(pick, request)
                if answer is None:
                    self._stopping.wait(FAILURE_PAUSE_SECONDS)
                    continue
                self.succeeded += 1
                self._learn(answer)
                self._stopping.wait(self._dice.random() * PAUSE_SECONDS_MAX)
        finally:
            self._caller.close()

    def _learn(self, answer: Any) -> None:
        for kv in kvs_shown(answer):
            self._seen[kv.key] = kv.mod_revision

    def _value(self) -> bytes:
        self._number += 1
        return f"{self._caller.name}-{self._number}".encode()

    def _invent(self) -> tuple[Callable[[grpc.Channel], Any], Any]:
        dice = self._dice.random()
        key = self._dice.choice(KEYS)
        if dice < 0.30:
            return _put, rpc.PutRequest(key=key, value=self._value(), prev_kv=dice < 0.1)
        if dice < 0.45:
            return _txn, self._swap(key)
        if dice < 0.55:
            return _txn, self._pair(key, self._dice.choice(KEYS))
        if dice < 0.62:
            end = self._dice.choice([b"", b"", self._dice.choice(KEYS)])
            request = rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=dice < 0.59)
            return _delete, request
        is_local = self._dice.random() < 0.4
        if dice < 0.85:
            return _range, rpc.RangeRequest(key=key, serializable=is_local)
        first, end = ALL_KEYS
        return _range, rpc.RangeRequest(key=first, range_end=end, serializable=is_local)

    def _swap(self, key: bytes) -> rpc.TxnRequest:
        """What every client of etcd does: change it if it is still what I have seen."""
        put = rpc.PutRequest(key=key, value=self._value())
        seen = self._seen.get(key, 0)
        return rpc.TxnRequest(
            compare=[rpc.Compare(key=key, target=rpc.Compare.MOD, mod_revision=seen)],
            success=[rpc.RequestOp(request_put=put)],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key))],
        )

    def _pair(self, one: bytes, other: bytes) -> rpc.TxnRequest:
        """Two keys at one revision; the second only where there is one."""
        put = rpc.PutRequest(key=one, value=self._value())
        ops = [rpc.RequestOp(request_put=put)]
        if one != other:
            gone = rpc.DeleteRangeRequest(key=other, prev_kv=True)
            ops.append(rpc.RequestOp(request_delete_range=gone))
        return rpc.TxnRequest(success=ops)


def _put(channel: grpc.Channel) -> Any:
    return services.KVStub(channel).Put


def _txn(channel: grpc.Channel) -> Any:
    return services.KVStub(channel).Txn


def _delete(channel: grpc.Channel) -> Any:
    return services.KVStub(channel).DeleteRange


def _range(channel: grpc.Channel) -> Any:
    return services.KVStub(channel).Range


def start_clients(
    cluster: ChaosCluster, book: Book, seed: int, stopping: threading.Event
) -> Sequence[Client]:
    clients = [
        Client(Caller(f"c{n}.{seed}", cluster, book, random.Random(seed * 100 + n)), stopping)
        for n in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    return clients
