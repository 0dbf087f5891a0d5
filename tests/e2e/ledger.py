"""Writers that keep a book of what was acknowledged, and the audit of a member against it.

A writer stops at its first error and notes what it had asked as unknown: a write of unknown
outcome may have happened or not, and is never repeated. The audit then knows all that must be
there, and all that may be.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

import grpc

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.servers_proc import ServerProcess, wait_until

CALL_SECONDS_MAX = 60.0
WRITERS = 6
AUDITED_RECORDS_MAX = 250


@dataclass(frozen=True, slots=True)
class Record:
    """One acknowledged change of one key; `value` is None for a delete."""

    revision: int
    key: bytes
    value: bytes | None


@dataclass
class Ledger:
    """All that the writers of all rounds know. Owner: its lock."""

    records: list[Record] = field(default_factory=list)
    latest: dict[bytes, Record] = field(default_factory=dict)
    unknown: dict[bytes, set[bytes | None]] = field(default_factory=dict)
    """Per key: values that an unanswered request may have left, since its latest record."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, revision: int, changes: dict[bytes, bytes | None]) -> None:
        with self.lock:
            for key, value in changes.items():
                record = Record(revision, key, value)
                self.records.append(record)
                self.latest[key] = record
                self.unknown.pop(key, None)

    def doubt(self, changes: dict[bytes, bytes | None]) -> None:
        with self.lock:
            for key, value in changes.items():
                self.unknown.setdefault(key, set()).add(value)

    @property
    def revision(self) -> int:
        return max((record.revision for record in self.records), default=1)


class Load:
    """Concurrent writers on one member for one round: puts, deletes and two-key transactions."""

    def __init__(self, member: ServerProcess, ledger: Ledger, round_number: int) -> None:
        self._ledger = ledger
        self._stop = threading.Event()
        self._channel = grpc.insecure_channel(member.endpoint)
        self._kv = services.KVStub(self._channel)
        self._threads = [
            threading.Thread(target=self._write, args=(writer, round_number), daemon=True)
            for writer in range(WRITERS)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(CALL_SECONDS_MAX * 2)
        self._channel.close()

    def wait_for(self, more: int) -> None:
        """Until `more` further changes were acknowledged."""
        goal = len(self._ledger.records) + more
        wait_until(
            lambda: len(self._ledger.records) >= goal or not self.alive, 180, f"{more} more writes"
        )

    @property
    def alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _write(self, writer: int, round_number: int) -> None:
        dice = random.Random(writer * 1000 + round_number)
        number = 0
        while not self._stop.is_set():
            number += 1
            value = b"%d:%d:%d" % (round_number, writer, number)
            keys = [b"w%d/%d" % (writer, dice.randrange(40)) for _ in range(2)]
            request, changes = _invent(dice, keys, value)
            try:
                reply = self._send(request)
            except grpc.RpcError:
                self._ledger.doubt(changes)
                return
            self._ledger.acknowledge(reply.header.revision, changes)

    def _send(self, request: object) -> object:
        if isinstance(request, rpc.PutRequest):
            return self._kv.Put(request, timeout=CALL_SECONDS_MAX)
        return self._kv.Txn(request, timeout=CALL_SECONDS_MAX)


def _invent(
    dice: random.Random, keys: list[bytes], value: bytes
) -> tuple[object, dict[bytes, bytes | None]]:
    """A request that changes each of its keys whatever was there, and those changes."""
    put = [rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value)) for key in keys]
    kind = dice.random()
    if kind < 0.6 or keys[0] == keys[1]:
        return rpc.PutRequest(key=keys[0], value=value), {keys[0]: value}
    if kind < 0.85:
        return rpc.TxnRequest(success=put), {keys[0]: value, keys[1]: value}
    # The put makes it a revision of its own even if the deleted key was not there.
    delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=keys[1]))
    return rpc.TxnRequest(success=[put[0], delete]), {keys[0]: value, keys[1]: None}


def audit(member: ServerProcess, ledger: Ledger) -> None:
    """Nothing acknowledged is missing, now or in the history, and nothing is invented."""
    with grpc.insecure_channel(member.endpoint) as channel:
        kv = services.KVStub(channel)
        read = rpc.RangeRequest(key=b"w", range_end=b"x")
        reply = kv.Range(read, timeout=CALL_SECONDS_MAX)
        assert reply.header.revision >= ledger.revision, "the revision went back"
        _audit_present(ledger, {pair.key: pair.value for pair in reply.kvs})
        _audit_history(ledger, kv)


def _audit_present(ledger: Ledger, found: dict[bytes, bytes]) -> None:
    for key, record in ledger.latest.items():
        possible = {record.value} | ledger.unknown.get(key, set())
        assert found.get(key) in possible, f"{key!r} is {found.get(key)!r}, not {record}"
    for key in found.keys() - ledger.latest.keys():
        assert found[key] in ledger.unknown.get(key, set()), f"{key!r} comes from nowhere"
    # What was unknown is settled now: later rounds must keep it.
    for key in list(ledger.unknown):
        value = found.get(key)
        if key not in ledger.latest or ledger.latest[key].value != value:
            ledger.latest[key] = Record(0, key, value)
    ledger.unknown.clear()


def _audit_history(ledger: Ledger, kv: services.KVStub) -> None:
    """Each acknowledged change can be read at its own revision, unless that is compacted."""
    dice = random.Random(len(ledger.records))
    chosen = ledger.records[-AUDITED_RECORDS_MAX // 2 :]
    chosen += dice.sample(ledger.records, min(len(ledger.records), AUDITED_RECORDS_MAX // 2))
    for record in chosen:
        read = rpc.RangeRequest(key=record.key, revision=record.revision)
        try:
            pairs = kv.Range(read, timeout=CALL_SECONDS_MAX).kvs
        except grpc.RpcError as error:
            assert "compacted" in str(error.details()), error
            continue
        assert [pair.value for pair in pairs] == ([] if record.value is None else [record.value])
        assert all(pair.mod_revision == record.revision for pair in pairs)
