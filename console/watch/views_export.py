"""What a watch has seen as a file: NDJSON, with what is missing said in it."""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse

from console.access import allow
from console.errors import plain
from console.gateway import Event, Key
from console.keys.addresses import BadAddress, number_of
from console.keys.byte_text import show
from console.keys.views_key import file_name
from console.roles import Role
from console.watch.scope import label, scope_of
from console.watch.views import is_wanted

EXPORT_EVENTS_MAX = 20_000
EXPORT_BYTES_MAX = 64 * 1024 * 1024


@allow(Role.VIEWER)
def export(request: HttpRequest) -> HttpResponse:
    """Every event of a range of revisions, also those that came too fast to be shown, one JSON
    object a line; lines with `gap` say what is missing."""
    scope = scope_of(request.GET)
    try:
        first, last = (number_of(request.GET.get(name, "")) for name in ("from", "to"))
    except BadAddress as error:
        return plain(request, "This address names no export", str(error), 400)
    if scope.mistakes:
        return plain(request, "This address names no export", "; ".join(scope.mistakes), 400)
    newest = max(request.gateway.newest_revision(keys) for keys in scope.ranges)
    first, until = max(1, first), min(last or newest, newest)
    scans = [request.gateway.scan(keys, start=first, until=until) for keys in scope.ranges]
    merged: Iterator[Event] = heapq.merge(*scans, key=lambda event: event.revision)
    lines: list[bytes] = []
    size = 0
    stopped_at = 0
    for event in merged:
        if not is_wanted(event, scope):
            continue
        if len(lines) >= EXPORT_EVENTS_MAX or size > EXPORT_BYTES_MAX:
            stopped_at = event.revision
            break
        lines.append(_line(_event(event)))
        size += len(lines[-1])
    for keys, scan in zip(scope.ranges, scans, strict=True):
        covered = scan.covered()
        of = {"range": label(keys)} if len(scans) > 1 else {}
        if covered.compacted and covered.compacted >= first:
            gap = {"gap": "compacted", "compact_revision": str(covered.compacted)}
            lines.insert(0, _line(gap | of))
        if not stopped_at and not covered.is_complete:
            gap = {"gap": "not exported", "from_revision": str(covered.read_to + 1)}
            lines.append(_line(gap | of))
    if stopped_at:
        lines.append(_line({"gap": "not exported", "from_revision": str(stopped_at)}))
    name = file_name(f"watch-{request.cluster.slug}-{first}-{until}".encode())
    return _download(b"".join(lines), f"{name}.ndjson")


def _download(body: bytes, name: str) -> HttpResponse:
    response = HttpResponse(body, content_type="application/x-ndjson")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
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
