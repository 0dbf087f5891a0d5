"""Where releases of etcd answer differently, each with its rule: the only excuses there are.

A rule is in force between two members when the subject's version has the newer behaviour and the
reference's does not. Two kinds: a `translate` turns the reference's answer into the one the newer
behaviour gives (exact), an `explains` accepts a difference whose newer side cannot be derived from
the older (as narrow as the rule allows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvserver.proto import rpc_pb2 as rpc
from tests.compat.driver import KV, LEASE, MAINTENANCE
from tests.compat.operations import SHORT_LEASE, World, requests_of

if TYPE_CHECKING:
    from tests.compat.compare import Outcome

INVALID_ARGUMENT, NOT_FOUND, OUT_OF_RANGE = 3, 5, 11
KEY_NOT_FOUND = (INVALID_ARGUMENT, "etcdserver: key not found")
LEASE_NOT_FOUND = (NOT_FOUND, "etcdserver: requested lease not found")
COMPACTED = (OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE = (OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
Version = tuple[int, int, int]
ALWAYS: tuple[Version, ...] = ()
"""For what no release promises."""


@dataclass(slots=True)
class Case:
    """One call answered by both sides."""

    path: str
    request: Any
    reference: Outcome
    subject: Outcome
    world: World


@dataclass(frozen=True, slots=True)
class Rule:
    """`since`: the first patch release of each line that has the newer behaviour."""

    name: str
    since: tuple[Version, ...]
    translate: Callable[[Case], bool] | None = None
    explains: Callable[[Case], bool] | None = None
    explains_watch: Callable[[tuple[int, int], list[str], list[str], World], bool] | None = None


def parse_version(text: str) -> Version:
    major, minor, patch = text.split("-")[0].split(".")[:3]
    return (int(major), int(minor), int(patch))


def has(version: Version, since: tuple[Version, ...]) -> bool:
    """A release has a behaviour if its own line got it by then, or its line is newer than all."""
    for first in since:
        if version[:2] == first[:2]:
            return version >= first
    return version > max(since)


def between(reference: str, subject: str) -> list[Rule]:
    older, newer = parse_version(reference), parse_version(subject)
    return [
        rule
        for rule in RULES
        if not rule.since or (has(newer, rule.since) and not has(older, rule.since))
    ]


def explain_watch(
    rules: list[Rule], start: tuple[int, int], one: list[str], other: list[str], world: World
) -> str | None:
    for rule in rules:
        if rule.explains_watch is not None and rule.explains_watch(start, one, other, world):
            return rule.name
    return None


def _range_pairs(request: Any, reply: Any) -> Iterator[tuple[rpc.RangeRequest, Any]]:
    """Each Range with its answer, unary or within the branch a transaction took."""
    if isinstance(request, rpc.RangeRequest):
        yield request, reply
    elif isinstance(request, rpc.TxnRequest):
        branch = request.success if reply.succeeded else request.failure
        for op, answer in zip(branch, reply.responses, strict=False):
            if op.HasField("request_range"):
                yield op.request_range, answer.response_range
            elif op.HasField("request_txn"):
                yield from _range_pairs(op.request_txn, answer.response_txn)


def keys_only_without_lease(case: Case) -> bool:
    """R11: keys_only drops the lease too, unless the values had to be read for sorting."""
    changed = False
    for request, reply in _range_pairs(case.request, case.reference.reply):
        if request.keys_only and request.sort_target != rpc.RangeRequest.VALUE:
            for kv in reply.kvs:
                changed = changed or bool(kv.lease)
                kv.lease = 0
    return changed


def alarm_header(case: Case) -> bool:
    """A5: the alarm reply has a header; its revision is checked against the other calls' only."""
    if case.path != MAINTENANCE + "Alarm" or case.reference.code or case.subject.code:
        return False
    case.reference.reply.header.CopyFrom(case.subject.reply.header)
    return bool(case.subject.reply.header.cluster_id and case.subject.reply.header.revision)


def hash_revision(case: Case) -> bool:
    """X4: the revision hashed is named: the requested one, or the current one."""
    if case.path != MAINTENANCE + "HashKV" or case.reference.code:
        return False
    reply = case.reference.reply
    # Go computes with any number below one as asked for, except zero.
    reply.hash_revision = case.request.revision or reply.header.revision
    return True


def stored_compaction_hash(case: Case) -> bool:
    """X5: asked for a finished compaction's revision, the stored hash and the one before it."""
    if case.path != MAINTENANCE + "HashKV" or case.subject.code:
        return False
    revision, done = case.request.revision, [-1, *case.world.compactions]
    if revision <= 0 or revision not in done[-10:]:
        return False
    previous = done[done.index(revision) - 1]
    return bool(case.subject.reply.compact_revision == previous)


def hash_at_compacted(case: Case) -> bool:
    """X3: a hash at exactly the compact revision is allowed."""
    if case.path != MAINTENANCE + "HashKV" or case.subject.code:
        return False
    refused = (case.reference.code, case.reference.details) == COMPACTED
    at = case.request.revision or case.subject.reply.header.revision
    return refused and at == case.world.compacted


def lease_before_key(case: Case) -> bool:
    """P4: of a put in a transaction whose lease and key are both missing, the lease is reported."""
    if case.path != KV + "Txn":
        return False
    both = any(p.lease and p.ignore_value for p in requests_of(case.request, "request_put"))
    pair = [(side.code, side.details) for side in (case.reference, case.subject)]
    return both and pair == [KEY_NOT_FOUND, LEASE_NOT_FOUND]


def first_failure_wins(case: Case) -> bool:
    """T10: several failing operations: the first in order is reported, not the first put."""
    if case.path != KV + "Txn":
        return False
    known = {KEY_NOT_FOUND, LEASE_NOT_FOUND, COMPACTED, FUTURE}
    pair = [(side.code, side.details) for side in (case.reference, case.subject)]
    ranges = any(r.revision for r in requests_of(case.request, "request_range"))
    puts = any(
        p.lease or p.ignore_value or p.ignore_lease
        for p in requests_of(case.request, "request_put")
    )
    # The old order checks all puts first: its error is a put's, the new one a range's.
    return (
        ranges
        and puts
        and set(pair) <= known
        and pair[0] in {KEY_NOT_FOUND, LEASE_NOT_FOUND}
        and pair[1] in {COMPACTED, FUTURE}
    )


def negative_leases_restored(case: Case) -> bool:
    """P4: leases survive a restart, those with negative ids too (3.5.1 forgets them)."""
    if not case.world.restarted or case.reference.code or case.subject.code:
        return False
    one, other = case.reference.reply, case.subject.reply
    if case.path == LEASE + "LeaseLeases":
        return [lease for lease in other.leases if lease.ID > 0] == list(one.leases)
    return (
        case.path == LEASE + "LeaseTimeToLive"
        and case.request.ID < 0
        and one.grantedTTL == 0
        and other.grantedTTL > 0
    )


def short_lease_over(case: Case) -> bool:
    """E1: a lease of two seconds may be over on one side when its revocation arrives."""
    if case.path != LEASE + "LeaseRevoke" or case.request.ID != SHORT_LEASE:
        return False
    ends = {(side.code, side.details) for side in (case.reference, case.subject)}
    return ends == {(0, ""), LEASE_NOT_FOUND}


_SORT_FIELDS = {
    rpc.RangeRequest.VERSION: "version",
    rpc.RangeRequest.CREATE: "create_revision",
    rpc.RangeRequest.MOD: "mod_revision",
    rpc.RangeRequest.VALUE: "value",
}


def _level_ties(request: rpc.RangeRequest, reply: Any) -> None:
    """Put items of equal sort field in key order; blur those that a limit cut among equals."""
    name = _SORT_FIELDS.get(request.sort_target)
    if name is None:
        return
    kvs = list(reply.kvs)
    if request.keys_only and name == "value":
        # The values that were sorted by are not shown: any two items may have been equal.
        name, kvs = "", [] if reply.more else kvs
    else:
        last = getattr(kvs[-1], name) if kvs and reply.more else None
        for kv in kvs:
            if last is not None and getattr(kv, name) == last:
                kv.Clear()
                setattr(kv, name, last)
    order = sorted(kvs, key=lambda kv: (getattr(kv, name) if name else 0, kv.key))
    if name and request.sort_order == rpc.RangeRequest.DESCEND:
        order = sorted(order, key=lambda kv: getattr(kv, name), reverse=True)
    copies = [type(kv).FromString(kv.SerializeToString()) for kv in order]
    del reply.kvs[:]
    reply.kvs.extend(copies)


def ties(case: Case) -> bool:
    """R8: the order of items whose sort field is equal is nobody's promise."""
    if case.reference.code or case.subject.code:
        return False
    if case.path not in (KV + "Range", KV + "Txn"):
        return False
    levelled = []
    for side in (case.reference, case.subject):
        reply = type(side.reply).FromString(side.reply.SerializeToString())
        for request, answer in _range_pairs(case.request, reply):
            _level_ties(request, answer)
        levelled.append(reply)
    return bool(levelled[0] == levelled[1])


def tombstone_at_start(
    start: tuple[int, int], one: list[str], other: list[str], world: World
) -> bool:
    """D5, Z3: a watch from exactly the compact revision sees a delete at that revision."""
    first, compacted = start
    if first != compacted:
        return False
    extra = [e for e in other if e.startswith(f"{first} type: DELETE")]
    rest = [e for e in other if e not in extra]
    return bool(extra) and other[: len(extra)] == extra and rest == one


RULES = (
    Rule("spec/kv.md R8", ALWAYS, explains=ties),
    Rule("spec/lease.md E1", ALWAYS, explains=short_lease_over),
    Rule("spec/kv.md R11", ((3, 7, 0),), translate=keys_only_without_lease),
    Rule("spec/kv.md X4", ((3, 6, 0),), translate=hash_revision),
    Rule("spec/maintenance.md A5", ((3, 5, 0),), translate=alarm_header),
    Rule("spec/kv.md X5", ((3, 5, 5),), explains=stored_compaction_hash),
    Rule("spec/kv.md X3", ((3, 4, 27), (3, 5, 10)), explains=hash_at_compacted),
    Rule("spec/kv.md P4", ((3, 7, 0),), explains=lease_before_key),
    Rule("spec/kv.md T10", ((3, 6, 0),), explains=first_failure_wins),
    Rule("spec/lease.md P4", ((3, 4, 23), (3, 5, 2), (3, 6, 0)), explains=negative_leases_restored),
    Rule(
        "spec/watch.md D5", ((3, 4, 36), (3, 5, 18), (3, 6, 0)), explains_watch=tombstone_at_start
    ),
)
