"""Watch: the page that the socket fills, whole without it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import etcdctl_for
from console.errors import cluster_error
from console.gateway import ClusterError, Denied, Event, History, Reader
from console.keys.byte_text import show
from console.keys.paging import KeyRange
from console.roles import Role
from console.watch.cursors import Cursor, Place, pack
from console.watch.present import asked_of, export_url, rows_of, url
from console.watch.scope import KINDS, Scope, label, pairs_of, scope_of

LOOK_REVISIONS = 500
"""A page reads this many revisions, the newest or those from the one asked for on."""
ROWS_AT_FIRST = 50


@dataclass(frozen=True, slots=True)
class Look:
    """What a page found in one range: its history, or why not."""

    keys: KeyRange
    newest: int = 0
    found: History | None = None
    refused: ClusterError | None = None


@allow(Role.VIEWER)
def watch(request: HttpRequest) -> HttpResponse:
    """Events by replay; the socket goes on behind what this page has read, so nothing is missed
    in between."""
    scope = scope_of(request.GET)
    frame: dict[str, Any] = {
        "title": "Watch",
        "rail_current": "watch",
        "crumbs": [("Watch", None)],
        "has_filter": True,
        "scope": scope,
        "kinds": KINDS,
        "text": show(scope.text),
        "hidden": [pair for keys in scope.asked for pair in pairs_of(keys)],
        "typed": "",
    }
    if scope.mistakes:
        frame["typed"] = (request.GET.getlist("prefix") or [""])[-1]
        if not scope.asked:  # a slip is not every key
            return render(request, "watch/page.html", frame, status=400)
    looks = look_at(request.gateway, scope)
    refusals = [one.refused for one in looks if one.refused]
    unusable = next((error for error in refusals if not isinstance(error, Denied)), None)
    if unusable:
        return cluster_error(request, unusable, "Watching a range of keys", **frame)
    denied = {one.keys: f"{one.refused.code} {one.refused.message}" for one in looks if one.refused}
    frame["asked"] = asked_of(request.cluster, scope, denied)
    if len(refusals) == len(looks):
        context = {"denied": refusals[0], "denied_ranges": [label(keys) for keys in denied]}
        return render(request, "watch/page.html", frame | context, status=403)
    status = 400 if scope.mistakes else 200
    context = frame | _found(request, scope, [one for one in looks if one.found])
    return render(request, "watch/page.html", context, status=status)


def look_at(gateway: Reader, scope: Scope) -> list[Look]:
    """Each range at once with the others: two calls a range, and no slow one adds to another."""

    def look(keys: KeyRange) -> Look:
        try:
            newest = gateway.newest_revision(keys)
            start = scope.start or max(1, newest - LOOK_REVISIONS + 1)
            if start > newest:
                return Look(keys, newest, History((), start, 0, start - 1, newest, 0, True))
            until = min(newest, start + LOOK_REVISIONS - 1)
            return Look(keys, newest, gateway.history(keys, start=start, until=until))
        except ClusterError as error:
            return Look(keys, refused=error)

    with ThreadPoolExecutor(len(scope.ranges)) as pool:
        return list(pool.map(look, scope.ranges))


def _found(request: HttpRequest, scope: Scope, looks: list[Look]) -> dict[str, Any]:
    histories = [one.found for one in looks if one.found]
    events = wanted_events(scope, [event for found in histories for event in found.events])
    shown = events[-ROWS_AT_FIRST:]
    newest = max(one.newest for one in looks)
    read_to = min(found.read_to for found in histories)
    first = min(found.first for found in histories)
    compacted = max(found.compacted for found in histories)
    place = Place(
        tuple(Cursor(one.keys, _next(one)) for one in looks),
        since=max(1, shown[0].revision if shown and not scope.start else first),
    )
    tool = etcdctl_for(request.cluster)
    return {
        "rows": rows_of(shown),
        "unshown": len(events) - len(shown) + sum(found.left_out for found in histories),
        "looked": (first, read_to),
        "newest": newest,
        "compacted": compacted if scope.start and compacted >= scope.start else 0,
        "later_url": _from(request, scope, read_to + 1) if read_to < newest else None,
        "place": place,
        "packed": pack(place),
        "socket_url": url(f"/ws/c/{request.cluster.slug}/watch", _sound(scope).query(start=False)),
        "export_url": export_url(request.cluster, scope, place.since, read_to) if shown else None,
        "command": "\n".join(tool.watch(one.keys, _next(one)) for one in looks),
    }


def _next(look: Look) -> int:
    assert look.found
    return max(look.found.read_to, look.found.compacted) + 1


def _sound(scope: Scope) -> Scope:
    return Scope(scope.asked, scope.kind, scope.text)


def _from(request: HttpRequest, scope: Scope, revision: int) -> str:
    return url(request.path, [*scope.query(start=False), ("rev", str(revision))])


def wanted_events(scope: Scope, events: list[Event]) -> list[Event]:
    """Those the filters let through, oldest first."""
    wanted = [event for event in events if is_wanted(event, scope)]
    return sorted(wanted, key=lambda event: event.revision)


def is_wanted(event: Event, scope: Scope) -> bool:
    kind = scope.has_deletes if event.is_delete else scope.has_puts
    return kind and scope.wants_key(event.key)
