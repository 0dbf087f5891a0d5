"""One acknowledged call against the store it found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kvserver.proto import rpc_pb2 as rpc
from tests.support.linearizability.history import WRITES, Operation, kvs_shown
from tests.support.linearizability.timeline import Records, Timeline, leaves, plain
from tests.support.model import Record, in_interval

JUDGED = (*WRITES, rpc.RangeRequest)


def is_judged(operation: Operation) -> bool:
    return operation.is_acknowledged and isinstance(operation.request, JUDGED)


def can_store(request: Any) -> bool:
    return isinstance(request, (*WRITES, rpc.LeaseRevokeRequest))


def is_candidate(operation: Operation) -> bool:
    """May have made a revision that its answer, if there was one, does not vouch for."""
    if isinstance(operation.request, rpc.LeaseRevokeRequest):
        return not operation.is_refused
    return operation.is_unknown and can_store(operation.request)


def answer_fault(timeline: Timeline, operation: Operation) -> tuple[str, Records]:
    """What is wrong with an answer (nothing: an empty text), and what the call stored.

    `timeline` holds at least the state that the call found: the revision before its own when it
    made one, else the one it names.
    """
    found = operation.revision - operation.has_changed
    effect = timeline.effect(operation.request, found)
    if isinstance(effect, str):
        return f"a call that {effect}, was acknowledged at revision {operation.revision}", []
    if bool(effect.records) != operation.has_changed:
        said = "something" if operation.has_changed else "nothing"
        would = "something" if effect.records else "nothing"
        return f"changed {said} by its answer, {would} by the state of revision {found}", []
    if effect.answer != plain(operation.response):
        expected = type(operation.response).FromString(effect.answer)
        return f"revision {found} would answer {_flat(expected)}", effect.records
    return "", effect.records


def witnesses(
    operation: Operation, timeline: Timeline, makers: Mapping[int, Operation]
) -> tuple[Operation, ...]:
    """The call and those that made what it showed and what it should have shown."""
    revisions = {kv.mod_revision for kv in kvs_shown(operation.response)}
    intervals = [(p.key, getattr(p, "range_end", b"")) for p in leaves(operation.request)]
    found = min(operation.revision - operation.has_changed, timeline.revision)
    revisions.update(r.main for r in timeline.records_of(intervals, found, all_of=True)[-3:])
    involved = [makers[revision] for revision in sorted(revisions) if revision in makers]
    return tuple(dict.fromkeys([*involved, operation]))


def may_store(request: Any, records: Records) -> bool:
    """A quick look: could this request have made these records at all? False only when not."""
    if isinstance(request, rpc.LeaseRevokeRequest):
        return all(record.kv is None for record in records)
    parts = [p for p in leaves(request) if not isinstance(p, (rpc.RangeRequest, rpc.Compare))]
    return all(any(_may_store(part, record) for part in parts) for record in records)


def _may_store(part: Any, record: Record) -> bool:
    if isinstance(part, rpc.PutRequest):
        return (
            record.kv is not None
            and part.key == record.key
            and (part.ignore_value or part.value == record.kv.value)
        )
    return record.kv is None and in_interval(record.key, part.key, part.range_end)


def same_changes(one: Records, other: Records) -> bool:
    return [_change(record) for record in one] == [_change(record) for record in other]


def _change(record: Record) -> tuple[int, bytes, bytes]:
    return record.main, record.disk_key(), record.disk_value()


def brief(records: Iterable[Record]) -> str:
    parts = []
    for record in records:
        value = "deleted" if record.kv is None else f"{record.kv.value!r} v{record.kv.version}"
        parts.append(f"{record.key!r}: {value}")
    return "{" + ", ".join(parts) + "}"


def _flat(message: Any) -> str:
    return " ".join(str(message).split()) or "an empty answer"
