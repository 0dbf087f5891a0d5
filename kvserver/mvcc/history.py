"""Past revisions as events, for watchers that catch up (spec/watch.md §2)."""

from __future__ import annotations

from kvserver.mvcc.backend.api import Backend
from kvserver.mvcc.event import Event
from kvserver.mvcc.kv_codec import create_revision_of, key_of, tombstone_event_kv
from kvserver.mvcc.revision import RevisionKey, bound_after, is_tombstone, main_of, sub_of

SCAN_RECORDS = 1000


def events_between(
    backend: Backend, first_revision: int, last_revision: int, limit_revisions: int
) -> list[list[Event]]:
    """At most `limit_revisions` whole revisions in [first_revision, last_revision], ascending, each
    the list of its events in execution order (V3, V4). Revisions that hold nothing any more are
    left out."""
    revisions: list[list[Event]] = []
    main = -1
    key = max(first_revision, 0).to_bytes(8)
    last = bound_after(last_revision)
    # Most revisions hold one record, so this is rarely too few and never much too many.
    limit = min(limit_revisions + 1, SCAN_RECORDS)
    while pairs := backend.scan(key, last, limit):
        for revision, record in pairs:
            event = event_of(revision, record)
            if event.main != main:
                if len(revisions) == limit_revisions:
                    return revisions
                main = event.main
                revisions.append([])
            revisions[-1].append(event)
        if len(pairs) < limit:
            break
        key = pairs[-1][0] + b"\0"
    return revisions


def event_of(revision: RevisionKey, record: bytes) -> Event:
    """The event that a record was, when it was written."""
    main = main_of(revision)
    sub = sub_of(revision)
    if is_tombstone(revision):
        return Event(key_of(record), tombstone_event_kv(record, main), True, False, main, sub)
    is_create = create_revision_of(record) == main
    return Event(key_of(record), record, False, is_create, main, sub)
