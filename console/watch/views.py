"""Watch: the page that the socket fills, whole without it; and what was seen as a file."""

from __future__ import annotations

import base64
import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import etcdctl_for
from console.errors import cluster_error, plain
from console.gateway import ClusterError, Denied, Event, Key
from console.keys.addresses import BadAddress, query_url
from console.keys.byte_text import show
from console.keys.views_key import file_name
from console.roles import Role
from console.watch.present import export_url, row_of
from console.watch.scope import Scope, revision_of, scope_of

LOOK_BACK_REVISIONS = 500
ROWS_AT_FIRST = 50
EXPORT_EVENTS_MAX = 20_000
EXPORT_BYTES_MAX = 64 * 1024 * 1024


@allow(Role.VIEWER)
def watch(request: HttpRequest) -> HttpResponse:
    """The newest events by replay; the socket goes on behind the revision this page was made at,
    so nothing is missed in between."""
    frame: dict[str, Any] = {
        "title": "Watch",
        "rail_current": "watch",
        "crumbs": [("Watch", None)],
        "has_filter": True,
        "asked": {name: request.GET.get(name, "") for name in ("prefix", "key", "end", "show")},
    }
    try:
        scope = scope_of(request.GET)
    except BadAddress as error:
        return render(request, "watch/page.html", {**frame, "bad": error}, status=400)
    frame["range"] = scope.keys
    try:
        newest = request.gateway.newest_revision(scope.keys)
        start = max(1, newest - LOOK_BACK_REVISIONS + 1)
        found = request.gateway.history(scope.keys, start=start, until=newest)
    except Denied as error:
        return render(request, "watch/page.html", {**frame, "denied": error}, status=403)
    except ClusterError as error:
        return cluster_error(request, error, "Watching a range of keys", **frame)
    events = [event for event in found.events if _is_wanted(event, scope)][-ROWS_AT_FIRST:]
    since = events[0].revision if events else newest + 1
    path = f"/ws/c/{request.cluster.slug}/watch"
    export = request.path + "/export"
    context = {
        "rows": [row_of(event) for event in reversed(events)],
        "looked": (found.first, newest),
        "next_revision": newest + 1,
        "socket_url": query_url(path, **scope.query, since=since),
        "export_url": export_url(export, scope, since, newest) if events else None,
        "command": etcdctl_for(request.cluster).watch(scope.keys, newest + 1),
    }
    return render(request, "watch/page.html", frame | context)


def _is_wanted(event: Event, scope: Scope) -> bool:
    return scope.has_deletes if event.is_delete else scope.has_puts


@allow(Role.VIEWER)
def export(request: HttpRequest) -> HttpResponse:
    """Every event of a range of revisions, also those that came too fast to be shown, one JSON
    object a line; the last line says when something is missing."""
    try:
        scope = scope_of(request.GET)
        first, last = (revision_of(request.GET.get(name, "")) for name in ("from", "to"))
    except BadAddress as error:
        return plain(request, "This address names no export", str(error), 400)
    newest = request.gateway.newest_revision(scope.keys)
    until = min(last or newest, newest)
    scan = request.gateway.scan(scope.keys, start=max(1, first), until=until)
    lines: list[bytes] = []
    size = 0
    stopped_at = 0
    for event in scan:
        if not _is_wanted(event, scope):
            continue
        if len(lines) >= EXPORT_EVENTS_MAX or size > EXPORT_BYTES_MAX:
            stopped_at = event.revision
            break
        lines.append(_line(_event(event)))
        size += len(lines[-1])
    covered = scan.covered()
    if covered.compacted and covered.compacted >= max(1, first):
        lines.insert(0, _line({"gap": "compacted", "compact_revision": str(covered.compacted)}))
    if stopped_at or not covered.is_complete:
        next_revision = stopped_at or covered.read_to + 1
        lines.append(_line({"gap": "not exported", "from_revision": str(next_revision)}))
    response = HttpResponse(b"".join(lines), content_type="application/x-ndjson")
    name = file_name(f"watch-{request.cluster.slug}-{first}-{until}".encode())
    response["Content-Disposition"] = f'attachment; filename="{name}.ndjson"'
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _event(event: Event) -> dict[str, Any]:
    """64-bit numbers are strings and bytes are base64: nothing is rounded or replaced (traps 3
    and 4). `key_text` is for people."""
    return {
        "revision": str(event.revision),
        "type": event.kind.upper(),
        "key": base64.b64encode(event.key).decode(),
        "key_text": show(event.key),
        "now": _key(event.now),
        "before": _key(event.prev),
    }


def _key(key: Key | None) -> dict[str, str] | None:
    if key is None:
        return None
    return {
        "value": base64.b64encode(key.value or b"").decode(),
        "create_revision": str(key.create_revision),
        "mod_revision": str(key.mod_revision),
        "version": str(key.version),
        "lease": key.lease_hex,
    }
