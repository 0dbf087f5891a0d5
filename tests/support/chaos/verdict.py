"""What must hold at the end of a round, whatever happened in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kvserver.proto import kv_pb2
from tests.support.chaos.leases import PREFIX, Lessee, Renewal
from tests.support.chaos.watching import Watching
from tests.support.linearizability import Operation, Start, check
from tests.support.linearizability.order import Bounds
from tests.support.watch_checks import Truth, WatcherLog


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was gathered. `logs` and `hashes`: of each member, up to revision `last`; each watch
    has shown everything up to `shown`, and maybe more."""

    start: Start
    shown: int
    last: int
    operations: Sequence[Operation]
    logs: Mapping[str, WatcherLog]
    hashes: Mapping[str, int]
    watches: Sequence[Watching]
    lessee: Lessee


@dataclass(slots=True)
class Verdict:
    violations: list[str] = field(default_factory=list)
    unknown_that_happened: int = 0


def judge(evidence: Evidence) -> Verdict:
    verdict = Verdict()
    found = verdict.violations
    if len(set(evidence.hashes.values())) != 1:
        found.append(f"HashKV at revision {evidence.last} differs: {evidence.hashes}")
    truth = true_log(evidence)
    for label, log in evidence.logs.items():
        faults = log.check(truth, complete_to=evidence.last)
        found.extend(f"the log of {label}: {fault}" for fault in faults)
    for watch in evidence.watches:
        found.extend(f"{watch.name}: {fault}" for fault in watch.check(truth, evidence.shown))
    report = check(evidence.operations, start=evidence.start, events=truth)
    verdict.unknown_that_happened = report.unknown_that_happened
    found.extend(str(violation) for violation in report.violations)
    found.extend(early_ends(evidence.operations, truth, evidence.lessee))
    return verdict


def true_log(evidence: Evidence) -> dict[int, list[kv_pb2.Event]]:
    """The events of the first member, with previous values worked out from the start."""
    log = next(iter(evidence.logs.values()))
    state = {kv.key: kv for kv in evidence.start.kvs}
    truth: dict[int, list[kv_pb2.Event]] = {}
    for told in log.events:
        truth.setdefault(told.kv.mod_revision, []).append(kv_pb2.Event(type=told.type, kv=told.kv))
    for events in truth.values():
        before = dict(state)
        for event in events:
            if event.kv.key in before and event.kv.create_revision != event.kv.mod_revision:
                event.prev_kv.CopyFrom(before[event.kv.key])
            if event.type == kv_pb2.Event.DELETE:
                state.pop(event.kv.key, None)
            else:
                state[event.kv.key] = event.kv
    return truth


def early_ends(operations: Sequence[Operation], truth: Truth, lessee: Lessee) -> list[str]:
    """A lease ended before its time-to-live had passed since an acknowledged renewal was sent."""
    bounds = Bounds(operations)
    until: dict[int, Renewal] = {}
    for renewal in lessee.renewals:
        best = until.get(renewal.lease, renewal)
        until[renewal.lease] = max(best, renewal, key=lambda each: each.sent + each.ttl_seconds)
    found = []
    for revision, events in truth.items():
        for event in events:
            lease = event.prev_kv.lease
            if event.type != kv_pb2.Event.DELETE or not event.kv.key.startswith(PREFIX):
                continue
            renewal = until.get(lease)
            if renewal is None or lease in lessee.revoked:
                continue
            seen = bounds.seen_by(revision)
            if seen < renewal.sent + renewal.ttl_seconds:
                found.append(
                    f"lease {lease} ended by {seen:.3f}, revision {revision}; it was renewed "
                    f"for {renewal.ttl_seconds} s at {renewal.sent:.3f} or later"
                )
    return found
