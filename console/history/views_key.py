"""The history of one key: its versions, any two compared."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import etcdctl_for
from console.errors import cluster_error, plain
from console.gateway import ClusterError, Key
from console.history.versions import Version, versions, window
from console.keys.addresses import BadAddress, key_of, key_url, number_of
from console.keys.byte_text import show
from console.keys.diff import compare_bytes
from console.keys.paging import one_key
from console.keys.views_key import key_frame
from console.roles import Role


@allow(Role.VIEWER)
def key_history(request: HttpRequest) -> HttpResponse:
    try:
        name = key_of(request)
        wanted = [number_of(request.GET.get(side, "")) for side in ("a", "b")]
    except BadAddress as error:
        return plain(request, "This address names no history", str(error), 400)
    frame = key_frame(name) | {"tab": "history"}
    try:
        context = _history(request, name)
        if all(wanted):
            context["comparison"] = _comparison(request, name, *wanted)
            context |= _beside(name, request, context["rows"], max(wanted))
    except ClusterError as error:
        tried = f"Reading the history of the key {show(name)}"
        return cluster_error(request, error, tried, **frame)
    return render(request, "history/key.html", frame | context)


def _history(request: HttpRequest, name: bytes) -> dict[str, Any]:
    """Trap 7: read from behind the compact revision, which the watch itself tells."""
    found, newest = request.gateway.key(name)
    last = found.mod_revision if found else 0
    history = request.gateway.history(one_key(name), start=1, until=newest, known_last=last)
    baseline = None
    if history.compacted:
        baseline, _ = request.gateway.key(name, history.compacted)
    rows = versions(history, baseline, is_newest_known=history.is_complete)
    return {
        "found": found,
        "newest": newest,
        "history": history,
        "rows": rows,
        "window": window(history.compacted, newest, (row.revision for row in rows)),
        "command": etcdctl_for(request.cluster).watch(one_key(name), history.first),
    }


def _beside(
    name: bytes, request: HttpRequest, rows: list[Version], revision: int
) -> dict[str, Any]:
    """Where `[` and `]` lead: the change before and the one after that of `revision`."""
    at = next((n for n, row in enumerate(rows) if row.revision == revision), None)
    if at is None:
        return {}

    def change(row: Version | None) -> str | None:
        if row is None or not row.older:
            return None
        here = key_url(request.cluster, name, "key_history", a=row.older, b=row.revision)
        return f"{here}#compare"

    return {
        "earlier_url": change(rows[at + 1] if at + 1 < len(rows) else None),
        "later_url": change(rows[at - 1] if at else None),
    }


def _comparison(request: HttpRequest, name: bytes, a: int, b: int) -> dict[str, Any]:
    """What the key held at two revisions, the older first."""
    old, new = sorted((a, b))
    sides: list[Key | None] = [request.gateway.key(name, revision)[0] for revision in (old, new)]
    before, after = (side.value if side else None for side in sides)
    return {
        "old": old,
        "new": new,
        "before": sides[0],
        "after": sides[1],
        "diff": compare_bytes(before, after),
    }
