"""The store at every revision, and what a request does at one of them.

A `Timeline` only grows at its end and can be cut back there, which is all that a replay or a
search needs. What a request does is asked of the model, given just the keys it touches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kvserver import errors
from kvserver.proto import kv_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.support.linearizability.history import Start
from tests.support.model import Model, Record, in_interval

Interval = tuple[bytes, bytes]
Records = list[Record]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a request answers, and what it stores at the next revision: nothing, for a read."""

    answer: bytes
    records: Records


class Timeline:
    """Per key its records, oldest first. Owner: one check."""

    def __init__(self, start: Start) -> None:
        self.revision = start.revision
        self._keys: dict[bytes, Records] = {
            kv.key: [Record(kv.mod_revision, 0, kv.key, kv)] for kv in start.kvs
        }
        self._written: list[Records] = []

    def append(self, records: Records) -> None:
        """The records of the next revision."""
        self.revision += 1
        self._written.append(records)
        for record in records:
            self._keys.setdefault(record.key, []).append(record)

    def cut(self, revision: int) -> None:
        """Back to `revision`, as if nothing had been appended since."""
        while self.revision > revision:
            for record in reversed(self._written.pop()):
                self._keys[record.key].pop()
            self.revision -= 1

    def records_of(self, intervals: Sequence[Interval], revision: int, *, all_of: bool) -> Records:
        """Up to `revision`, in order: of live keys the newest, or the whole history."""
        found: Records = []
        for records in self._touched(intervals):
            last = len(records)
            while last and records[last - 1].main > revision:
                last -= 1
            if all_of:
                found.extend(records[:last])
            elif last and records[last - 1].kv is not None:
                found.append(records[last - 1])
        return sorted(found, key=lambda record: (record.main, record.sub))

    def _touched(self, intervals: Sequence[Interval]) -> Iterator[Records]:
        if all(not end for _, end in intervals):
            for key in {key for key, _ in intervals}:
                yield self._keys.get(key, [])
            return
        for key, records in self._keys.items():
            if any(in_interval(key, first, end) for first, end in intervals):
                yield records

    def leased(self, lease: int, revision: int) -> list[bytes]:
        everything = self.records_of([(b"\0", b"\0")], revision, all_of=False)
        return sorted(r.key for r in everything if r.kv is not None and r.kv.lease == lease)

    def live_now(self) -> frozenset[tuple[bytes, bytes]]:
        """The state at the end, as a value."""
        return frozenset(
            (key, records[-1].disk_value())
            for key, records in self._keys.items()
            if records and records[-1].kv is not None
        )

    def effect(self, request: Any, revision: int) -> Effect | str:
        """Of a request that finds the store at `revision`; a text when it would be refused."""
        if isinstance(request, rpc.LeaseRevokeRequest):
            keys = self.leased(request.ID, revision)
            return Effect(b"", [Record(revision + 1, i, k, None) for i, k in enumerate(keys)])
        intervals, leases, past = [], set(), False
        for part in leaves(request):
            intervals.append((part.key, part.range_end if hasattr(part, "range_end") else b""))
            if isinstance(part, rpc.PutRequest):
                leases.add(part.lease)
            past = past or (isinstance(part, rpc.RangeRequest) and part.revision > 0)
        stored = self.records_of(intervals, revision, all_of=past)
        model = Model(revision=revision, stored=stored, leases=leases)
        try:
            response = _run(model, request)
        except errors.RequestError as error:
            return f"would be refused: {error}"
        return Effect(plain(response), [r for r in model.stored if r.main > revision])


def leaves(request: Any) -> Iterator[Any]:
    """Everything in a request that names keys."""
    if not isinstance(request, rpc.TxnRequest):
        yield request
        return
    yield from request.compare
    for op in (*request.success, *request.failure):
        yield from leaves(getattr(op, str(op.WhichOneof("request"))))


def _run(model: Model, request: Any) -> Any:
    if isinstance(request, rpc.PutRequest):
        return model.put(request)
    if isinstance(request, rpc.DeleteRangeRequest):
        return model.delete_range(request)
    if isinstance(request, rpc.TxnRequest):
        return model.txn(request)
    assert isinstance(request, rpc.RangeRequest), type(request)
    return model.range_(request)


def plain(response: Any) -> bytes:
    """An answer without its header, which says where and when and not what."""
    bare = type(response)()
    bare.CopyFrom(response)
    bare.ClearField("header")
    return bare.SerializeToString(deterministic=True)


def as_records(events: Sequence[kv_pb2.Event]) -> Records:
    """One revision of a true log."""
    return [
        Record(
            event.kv.mod_revision,
            sub,
            event.kv.key,
            None if event.type == kv_pb2.Event.DELETE else event.kv,
        )
        for sub, event in enumerate(events)
    ]


def as_events(records: Records) -> list[kv_pb2.Event]:
    """Without prev_kv."""
    events = []
    for record in records:
        event = kv_pb2.Event(type=kv_pb2.Event.PUT, kv=record.kv)
        if record.kv is None:
            gone = kv_pb2.KeyValue(key=record.key, mod_revision=record.main)
            event = kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=gone)
        events.append(event)
    return events
