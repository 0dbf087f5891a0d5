"""A whole range deleted. Level 3. (Bringing one back: views_rewind.py.)

The plan page shows the exact `[key, range_end)`, the count and a sample at one revision, and what
is applied is guarded by that revision (console.md §3 trap 13, §5).
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from console.access import allow
from console.audit.record import Outcome, etcdctl_for, recorded
from console.errors import cluster_error, plain
from console.gateway import ClusterError
from console.keys.addresses import BadAddress, bytes_of, list_url, number_of, query_url
from console.keys.byte_text import show
from console.keys.lens import PLAIN
from console.keys.paging import KeyRange, prefix_range
from console.keys.txn import Delete, Txn, none_newer
from console.keys.views_list import lens_context
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.roles import Role

SAMPLE = 20


def range_frame(title: str) -> dict[str, Any]:
    return lens_context(PLAIN) | {
        "title": title,
        "rail_current": "keys",
        "crumbs": [("Keys", "keys"), (title, None)],
    }


def range_of(request: HttpRequest) -> tuple[KeyRange, dict[str, str], bytes]:
    """The range a form means: a prefix, or `start` and `end` as they are; with the fields that
    say so again and the prefix. Raises BadAddress."""
    fields = request.POST if request.method == "POST" else request.GET
    if "start" in fields:
        start, end = bytes_of(fields["start"]), bytes_of(fields.get("end", ""))
        if not start or not end:
            raise BadAddress("a range has a first key and an end")
        return KeyRange(start, end), {"start": show(start), "end": show(end)}, b""
    if "prefix" not in fields:
        raise BadAddress("this address names no range")
    prefix = bytes_of(fields["prefix"])
    return prefix_range(prefix), {"prefix": show(prefix)}, prefix


@allow(Role.EDITOR, "GET", "POST", writes=True)
def delete_range(request: HttpRequest) -> HttpResponse:
    frame = range_frame("Delete range")
    try:
        keys, fields, prefix = range_of(request)
        base = number_of(request.POST.get("base", ""))
    except BadAddress as error:
        return plain(request, "This address names no range", str(error), 400)
    frame |= {"range": keys, "fields": fields, "prefix": prefix}
    try:
        if request.method == "POST" and base and request.POST.get("step") == "start":
            if is_confirmed(request):
                return _delete(request, keys, base, fields, frame)
            return _delete_plan(request, keys, frame, confirm_error=WRONG_NAME)
        return _delete_plan(request, keys, frame)
    except ClusterError as error:
        return cluster_error(request, error, f"Deleting the range {said(keys)}", **frame)


def said(keys: KeyRange) -> str:
    return f"[{show(keys.start)}, {show(keys.end) if keys.has_end else '∞'})"


def _delete_plan(
    request: HttpRequest, keys: KeyRange, frame: dict[str, Any], **more: Any
) -> HttpResponse:
    # With values: without, servers from 3.7 on do not tell the lease (spec/kv.md R11).
    part = request.gateway.part(keys, SAMPLE, has_values=True)
    context = {
        **frame,
        "count": part.count,
        "base": part.newest,
        "sample": part.keys,
        "cancel_url": list_url(request.cluster, frame["prefix"]),
        "command": etcdctl_for(request.cluster).txn(_delete_txn(keys, part.newest)),
        **more,
    }
    status = 422 if "confirm_error" in more else 409 if "was_conflict" in more else 200
    return render(request, "keys/delete_range.html", context, status=status)


def _delete_txn(keys: KeyRange, base: int) -> Txn:
    return Txn((none_newer(keys, base),), (Delete(keys.start, keys.end),))


def _delete(
    request: HttpRequest,
    keys: KeyRange,
    base: int,
    fields: dict[str, str],
    frame: dict[str, Any],
) -> HttpResponse:
    txn = _delete_txn(keys, base)
    command = etcdctl_for(request.cluster).txn(txn)
    with recorded(
        request, "delete range", said(keys), command=command, revision_before=base
    ) as row:
        result = request.gateway.txn(txn)
        row.outcome = Outcome.DONE if result.succeeded else Outcome.CONFLICT
        row.revision_after = result.revision
        if result.succeeded:
            row.detail = f"{result.answers[0].count} keys deleted"
    if not result.succeeded:
        return _delete_plan(request, keys, frame, was_conflict=base)
    context = {
        **frame,
        "deleted": result.answers[0].count,
        "revision": result.revision,
        "undo_url": query_url(_rewind_path(request), **fields, to=result.revision - 1),
        "back_url": list_url(request.cluster, b""),
        "command": command,
    }
    return render(request, "keys/delete_range_done.html", context)


def _rewind_path(request: HttpRequest) -> str:
    return reverse("rewind", args=[request.cluster.slug])
