"""An old version put back: one txn guarded by what the key is now, with a choice of lease."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.audit.record import etcdctl_for, recorded
from console.errors import cluster_error, plain
from console.gateway import ClusterError, Key, LeaseTime, Written
from console.keys.addresses import BadAddress, key_of, key_url, number_of
from console.keys.byte_text import show
from console.keys.diff import compare_bytes
from console.keys.views_key import key_frame, lease_of
from console.keys.views_write import note_outcome, toast
from console.roles import Role


@allow(Role.EDITOR, "GET", "POST", writes=True)
def restore_key(request: HttpRequest) -> HttpResponse:
    """Level 1: the diff first, then the put, a toast with Undo."""
    try:
        name, revision = key_of(request), number_of(request.GET.get("rev", ""))
        base = number_of(request.POST.get("base", ""))
    except BadAddress as error:
        return plain(request, "This address names no version", str(error), 400)
    frame = key_frame(name) | {"tab": "history", "revision": revision}
    try:
        old, newest = request.gateway.key(name, revision)
        if old is None or not revision:
            return render(request, "keys/absent.html", {**frame, "newest": newest}, status=404)
        if request.method != "POST":
            return _plan(request, old, frame)
        return _put_back(request, old, base, frame)
    except ClusterError as error:
        tried = f"Putting back the key {show(name)} as of revision {revision}"
        more = {"newest_url": key_url(request.cluster, name)}
        return cluster_error(request, error, tried, **frame, **more)


def _plan(
    request: HttpRequest, old: Key, frame: dict[str, Any], conflict: int | None = None
) -> HttpResponse:
    """`conflict`: the revision somebody looked at before the key changed under it."""
    now, newest = request.gateway.key(old.key)
    lease = lease_of(request, old)
    context = {
        **frame,
        "old": old,
        "now": now,
        "newest": newest,
        "diff": compare_bytes(now.value if now else None, old.value),
        "is_same": now is not None and now.value == old.value,
        "old_lease": lease if _may_attach(lease, now) else None,
        "conflict": conflict,
        "command": _command(request, old, now.mod_revision if now else 0, _default(now)),
    }
    return render(request, "history/restore.html", context, status=200 if conflict is None else 409)


def _may_attach(lease: LeaseTime | None, now: Key | None) -> bool:
    """The version's own lease is a choice when it still lives and the key has another."""
    return bool(lease and lease.remaining_seconds >= 0 and (not now or now.lease != lease.id))


def _default(now: Key | None) -> tuple[int, bool]:
    return (0, bool(now and now.lease))


def _put_back(request: HttpRequest, old: Key, base: int, frame: dict[str, Any]) -> HttpResponse:
    """`lease` chooses: keep (what the key has now), old (the version's own), none."""
    choice = request.POST.get("lease", "none")
    keeps_lease = choice == "keep" and base > 0
    lease = old.lease if choice == "old" else 0
    assert old.value is not None
    with recorded(
        request,
        "put back key",
        f"{show(old.key)} as of revision {frame['revision']}",
        command=_command(request, old, base, (lease, keeps_lease)),
        revision_before=base or None,
    ) as row:
        written: Written = request.gateway.put(
            old.key, old.value, base_mod_revision=base, lease=lease, keeps_lease=keeps_lease
        )
        note_outcome(row, written)
    if not written.is_done:
        return _plan(request, old, frame, conflict=base)
    toast(request, "Put back", old.key, mod=written.revision, to=base)
    return redirect(key_url(request.cluster, old.key))


def _command(request: HttpRequest, old: Key, base: int, choice: tuple[int, bool]) -> str:
    lease, keeps_lease = choice
    assert old.value is not None
    tool = etcdctl_for(request.cluster)
    return tool.put(old.key, old.value, base=base, lease=lease, keeps_lease=keeps_lease)
