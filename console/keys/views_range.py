"""Changes of a whole range: delete it, or bring it back to an earlier revision. Level 3.

The plan page shows the exact `[key, range_end)`, the count and a sample at one revision, and what
is applied is guarded by that revision (console.md §3 trap 13, §5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from console.access import allow
from console.audit.record import Outcome, etcdctl_for, recorded
from console.errors import cluster_error, plain
from console.gateway import ClusterError, Key, Part
from console.keys.addresses import BadAddress, bytes_of, list_url, number_of, query_url
from console.keys.apply import Applied, results_context, write_batches
from console.keys.batches import Change
from console.keys.byte_text import show
from console.keys.diff import compare_bytes
from console.keys.lens import PLAIN
from console.keys.paging import KeyRange, prefix_range
from console.keys.rewind import Difference, differences, walk
from console.keys.txn import Delete, Txn, none_newer
from console.keys.views_list import lens_context
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.roles import Role

SAMPLE = 20
DIFFS_SAMPLED = 5
REWIND_KEYS_MAX = 200_000
"""Keys a rewind looks at, on either side; beyond it somebody has to choose a narrower prefix."""


def _frame(title: str) -> dict[str, Any]:
    return lens_context(PLAIN) | {
        "title": title,
        "rail_current": "keys",
        "crumbs": [("Keys", "keys"), (title, None)],
    }


def _range_of(request: HttpRequest) -> tuple[KeyRange, dict[str, str], bytes]:
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
    frame = _frame("Delete range")
    try:
        keys, fields, prefix = _range_of(request)
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
        return cluster_error(request, error, f"Deleting the range {_said(keys)}", **frame)


def _said(keys: KeyRange) -> str:
    return f"[{show(keys.start)}, {show(keys.end) if keys.has_end else '∞'})"


def _delete_plan(
    request: HttpRequest, keys: KeyRange, frame: dict[str, Any], **more: Any
) -> HttpResponse:
    part = request.gateway.part(keys, SAMPLE)
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
        request, "delete range", _said(keys), command=command, revision_before=base
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


# --- rewind ---------------------------------------------------------------------------------------


class TooMany(Exception):
    """More keys than one rewind looks at."""


@allow(Role.EDITOR, "GET", "POST", writes=True)
def rewind(request: HttpRequest) -> HttpResponse:
    """All keys of a range back to what they were at the revision `to`."""
    frame = _frame("Rewind")
    try:
        keys, fields, prefix = _range_of(request)
        to = number_of(request.POST.get("to") or request.GET.get("to", ""))
        base = number_of(request.POST.get("base", ""))
    except BadAddress as error:
        return plain(request, "This address names no range", str(error), 400)
    frame |= {"range": keys, "fields": fields, "prefix": prefix, "to": to}
    frame["cancel_url"] = list_url(request.cluster, prefix)
    if not to:
        return render(request, "keys/rewind.html", frame)
    try:
        if request.method == "POST" and base and request.POST.get("step") == "start":
            if is_confirmed(request):
                return _rewind(request, keys, to, base, frame)
            return _rewind_plan(request, keys, to, frame, confirm_error=WRONG_NAME)
        return _rewind_plan(request, keys, to, frame)
    except TooMany:
        text = f"There are more than {REWIND_KEYS_MAX} keys in it. Choose a longer prefix."
        return plain(request, "This range is too large for one rewind", text, 422)
    except ClusterError as error:
        more = {**frame, "newest_url": frame["cancel_url"]}
        return cluster_error(request, error, f"Comparing with revision {to}", **more)


def _differences(
    request: HttpRequest, keys: KeyRange, to: int, base: int
) -> Iterator[Difference | None]:
    def ask(part: KeyRange, limit: int, revision: int) -> Part:
        return request.gateway.part(part, limit, revision)

    found = differences(walk(ask, keys, to), walk(ask, keys, base))
    for number, difference in enumerate(found):
        if number >= REWIND_KEYS_MAX:
            raise TooMany
        yield difference


def _rewind_plan(
    request: HttpRequest, keys: KeyRange, to: int, frame: dict[str, Any], **more: Any
) -> HttpResponse:
    reader = request.gateway
    base = reader.newest_revision(keys)
    counts: Counter[str] = Counter()
    sample: list[Difference] = []
    for difference in _differences(request, keys, to, base):
        counts["same" if difference is None else difference.kind] += 1
        if difference is not None and len(sample) < SAMPLE:
            sample.append(difference)
    context = {
        **frame,
        "base": base,
        "counts": dict(counts),
        "changes": sum(counts.values()) - counts["same"],
        "sample": [
            (one, _diff(reader, one, to, base) if number < DIFFS_SAMPLED else None)
            for number, one in enumerate(sample)
        ],
        "leases": request.POST.get("leases", ""),
        **more,
    }
    status = 422 if "confirm_error" in more else 200
    return render(request, "keys/rewind.html", context, status=status)


def _diff(reader: Any, one: Difference, to: int, base: int) -> Any:
    sides: list[Key | None] = [reader.key(one.key, revision)[0] for revision in (base, to)]
    return compare_bytes(*(side.value if side else None for side in sides))


def _rewind(
    request: HttpRequest, keys: KeyRange, to: int, base: int, frame: dict[str, Any]
) -> HttpResponse:
    takes_leases = request.POST.get("leases") == "old"
    changes = _changes(request, keys, to, base, takes_leases)
    target = f"{_said(keys)} to revision {to}"
    applied: Applied = write_batches(request, "rewind range", target, changes)
    undo = query_url(_rewind_path(request), **frame["fields"], to=base)
    context = frame | results_context(applied) | {"undo_url": undo, "verb": "Rewind"}
    return render(request, "keys/results.html", context)


def _changes(
    request: HttpRequest, keys: KeyRange, to: int, base: int, takes_leases: bool
) -> Iterator[Change]:
    reader = request.gateway
    alive: dict[int, bool] = {}
    for difference in _differences(request, keys, to, base):
        if difference is None:
            continue
        now = difference.now.mod_revision if difference.now else 0
        if difference.old is None:
            yield Change(difference.key, now, None)
            continue
        old, _ = reader.key(difference.key, to)
        assert old is not None
        lease = old.lease if takes_leases and _is_alive(reader, old.lease, alive) else 0
        has_lease = bool(difference.now and difference.now.lease)
        yield Change(old.key, now, old.value, lease, keeps_lease=has_lease and not lease)


def _is_alive(reader: Any, lease: int, known: dict[int, bool]) -> bool:
    if lease and lease not in known:
        known[lease] = not reader.lease_time(lease).is_gone
    return bool(lease) and known[lease]
