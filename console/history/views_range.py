"""The history of a range: what changed, block by block; keys that are gone; one revision whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import etcdctl_for
from console.errors import cluster_error, plain
from console.gateway import ClusterError, Denied, Event
from console.history.changes import describe
from console.history.versions import window
from console.keys.addresses import BadAddress, bytes_of, number_of, query_url
from console.keys.byte_text import show
from console.keys.diff import Diff
from console.keys.paging import FROM_NUL, KeyRange, prefix_range
from console.roles import Role

BLOCK_REVISIONS = 2000
"""A page of changes looks at this many revisions: a bound on what is read, not on what is shown."""
DELETED_KEYS_MAX = 500
DIFFS_MAX = 50
DIFF_BYTES_MAX = 64 * 1024


@allow(Role.VIEWER)
def history(request: HttpRequest) -> HttpResponse:
    shows = "deleted" if request.GET.get("show") == "deleted" else "changes"
    frame: dict[str, Any] = {
        "title": "History",
        "rail_current": "history",
        "crumbs": [("History", None)],
        "has_filter": True,
        "prefix_text": request.GET.get("prefix", ""),
        "shows": shows,
        "tabs": [("changes", "Changes"), ("deleted", "Deleted keys")],
    }
    try:
        prefix = bytes_of(frame["prefix_text"])
        position = number_of(request.GET.get("at", ""))
    except BadAddress as error:
        return render(request, "history/range.html", {**frame, "bad_prefix": error}, status=400)
    keys = prefix_range(prefix)
    frame |= {"prefix": prefix, "range": keys}
    look = _deleted if shows == "deleted" else _changes
    try:
        context = look(request, keys, position)
    except Denied as error:
        return render(request, "history/range.html", {**frame, "denied": error}, status=403)
    except ClusterError as error:
        tried = f"Reading the history of the keys {show(prefix)}"
        more = {k: frame[k] for k in ("rail_current", "crumbs")}
        return cluster_error(request, error, tried, **more)
    return render(request, "history/range.html", frame | context)


def _changes(request: HttpRequest, keys: KeyRange, position: int) -> dict[str, Any]:
    """A block of revisions that ends at `position`, 0 for the newest; newest first."""
    newest = request.gateway.newest_revision(keys)
    compacted = request.gateway.compacted(keys, newest)
    until = min(position or newest, newest)
    start = max(compacted + 1, until - BLOCK_REVISIONS + 1)
    found = request.gateway.history(keys, start=start, until=until)
    events = found.events[::-1]
    return {
        "history": found,
        "events": events,
        "window": window(compacted, newest, (event.revision for event in events)),
        "looked": (start, until),
        "earlier_url": _here(request, at=start - 1) if start > compacted + 1 else None,
        "newest_url": _here(request) if until < newest else None,
        "command": etcdctl_for(request.cluster).watch(keys, start),
    }


@dataclass(frozen=True, slots=True)
class Gone:
    """A key that was deleted and is not back. `last` is a revision at which it still was."""

    key: bytes
    deleted_at: int
    size_bytes: int | None

    @property
    def last(self) -> int:
        return self.deleted_at - 1


def _deleted(request: HttpRequest, keys: KeyRange, position: int) -> dict[str, Any]:
    """Keys deleted within the window, read from `position` on when a reading ran out of time."""
    newest = request.gateway.newest_revision(keys)
    scan = request.gateway.scan(keys, start=max(1, position), until=newest)
    gone: dict[bytes, Gone] = {}
    dropped = 0
    for event in scan:
        gone.pop(event.key, None)
        if event.is_delete:
            size = event.prev.size_bytes if event.prev else None
            gone[event.key] = Gone(event.key, event.revision, size)
        if len(gone) > DELETED_KEYS_MAX:
            del gone[next(iter(gone))]
            dropped += 1
    covered = scan.covered()
    compacted = covered.compacted or request.gateway.compacted(keys, newest)
    rows = list(gone.values())[::-1]
    more = not covered.is_complete and covered.read_to >= covered.first
    return {
        "history": covered,
        "gone": rows,
        "dropped": dropped,
        "window": window(compacted, newest, (row.deleted_at for row in rows)),
        "continue_url": _here(request, at=covered.read_to + 1) if more else None,
        "command": etcdctl_for(request.cluster).watch(keys, covered.first),
    }


def _here(request: HttpRequest, **more: object) -> str:
    kept = {name: request.GET[name] for name in ("prefix", "show") if request.GET.get(name)}
    return query_url(request.path, **kept, **more)


@dataclass(frozen=True, slots=True)
class Change:
    """One key of a revision, before and after. No diff where it would be too much for a page."""

    event: Event
    diff: Diff | None


@allow(Role.VIEWER)
def revision(request: HttpRequest, revision: int) -> HttpResponse:
    """Everything one txn changed."""
    frame: dict[str, Any] = {
        "title": f"Revision {revision}",
        "rail_current": "history",
        "crumbs": [("History", "history"), (f"Revision {revision}", None)],
        "revision": revision,
    }
    if not 0 < revision < 2**63:
        return plain(request, "This is no revision", "Revisions are numbered from 1.", 400)
    everything = KeyRange(FROM_NUL, FROM_NUL)
    try:
        newest = request.gateway.newest_revision(everything)
        compacted = request.gateway.compacted(everything, newest)
        is_there = compacted < revision <= newest
        found = (
            request.gateway.history(everything, start=revision, until=revision)
            if is_there
            else None
        )
    except ClusterError as error:
        return cluster_error(request, error, f"Reading revision {revision}", **frame)
    context = {
        **frame,
        "window": window(compacted, newest, (revision,)),
        "changes": _described(found.events) if found else [],
        "history": found,
        "is_future": revision > newest,
        "is_compacted": revision <= compacted,
        "command": etcdctl_for(request.cluster).watch(everything, revision),
    }
    status = 200 if is_there else 410 if revision <= compacted else 404
    return render(request, "history/revision.html", context, status=status)


def _described(events: tuple[Event, ...]) -> list[Change]:
    return [
        Change(event, describe(event, DIFF_BYTES_MAX) if number < DIFFS_MAX else None)
        for number, event in enumerate(events)
    ]
