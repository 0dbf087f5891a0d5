"""A key under another name: renamed or duplicated, byte for byte, in one guarded txn."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.audit.record import Outcome, etcdctl_for, recorded
from console.errors import cluster_error, form_again, plain
from console.gateway import ClusterError, Key
from console.keys.addresses import BadAddress, bytes_of, key_of, key_url, number_of
from console.keys.byte_text import show
from console.keys.draft import lease_error
from console.keys.txn import Delete, Get, Put, Txn, unchanged
from console.keys.views_key import key_frame, lease_of
from console.keys.views_write import toast
from console.roles import Role


@allow(Role.EDITOR, "GET", "POST", writes=True)
def rename_key(request: HttpRequest) -> HttpResponse:
    return _copy(request, is_rename=True)


@allow(Role.EDITOR, "GET", "POST", writes=True)
def duplicate_key(request: HttpRequest) -> HttpResponse:
    return _copy(request, is_rename=False)


def _copy(request: HttpRequest, *, is_rename: bool) -> HttpResponse:
    try:
        name, base = key_of(request), number_of(request.POST.get("base", ""))
    except BadAddress as error:
        return plain(request, "This address names no key", str(error), 400)
    verb = "Rename" if is_rename else "Duplicate"
    frame: dict[str, Any] = key_frame(name) | {
        "is_rename": is_rename,
        "verb": verb,
        "new_text": request.POST.get("new", show(name)),
        "lease_choice": request.POST.get("choice", "keep"),
        "lease_text": request.POST.get("lease", "").strip(),
        "errors": {},
    }
    try:
        found, _ = request.gateway.key(name)
        if found is None:
            return render(request, "keys/absent.html", frame, status=404)
        to_be_named = copy_txn(found, b"NEW-NAME", found.mod_revision, 0, is_rename=is_rename)
        frame |= {
            "found": found,
            "lease": lease_of(request, found),
            "command": etcdctl_for(request.cluster).txn(to_be_named),
        }
        if request.method != "POST":
            return render(request, "keys/copy.html", frame)
        if not base:
            return plain(request, "This form is incomplete", "It says no revision.", 400)
        return _apply(request, found, base, frame)
    except ClusterError as error:
        if error.code == "NOT_FOUND":  # spec/kv.md P2: nothing was written
            frame["errors"] = {"lease": "There is no lease with this id on the cluster."}
            return render(request, "keys/copy.html", frame, status=422)
        if request.method == "POST" and "found" in frame:
            return form_again(request, "keys/copy.html", error, frame)
        return cluster_error(request, error, f"{verb} {show(name)}", **frame)


def _apply(request: HttpRequest, found: Key, base: int, frame: dict[str, Any]) -> HttpResponse:
    new, errors = _new_name(frame["new_text"], found.key)
    if frame["lease_choice"] == "attach" and (why := lease_error(frame["lease_text"])):
        errors["lease"] = why
    if errors:
        return render(request, "keys/copy.html", frame | {"errors": errors}, status=422)
    txn = copy_txn(found, new, base, _lease(found, frame), is_rename=frame["is_rename"])
    action = "rename key" if frame["is_rename"] else "duplicate key"
    with recorded(
        request,
        action,
        f"{show(found.key)} → {show(new)}",
        command=etcdctl_for(request.cluster).txn(txn),
        revision_before=base,
    ) as row:
        result = request.gateway.txn(txn)
        row.outcome = Outcome.DONE if result.succeeded else Outcome.CONFLICT
        row.revision_after = result.revision
    if not result.succeeded:
        source, target = (answer.keys[0] if answer.keys else None for answer in result.answers)
        context = frame | {"conflict": True, "source": source, "target": target, "new": new}
        return render(request, "keys/copy.html", context, status=409)
    if frame["is_rename"]:
        said = f"Renamed {show(found.key)} to {show(new)} at revision {result.revision}."
        messages.success(request, said)
    else:
        toast(request, "Put", new, mod=result.revision, to=0)
    return redirect(key_url(request.cluster, new))


def copy_txn(found: Key, new: bytes, base: int, lease: int, *, is_rename: bool) -> Txn:
    """Only if the source is what was seen and the new name is free."""
    assert found.value is not None
    then: list[Put | Delete] = [Put(new, found.value, lease)]
    if is_rename:
        then.append(Delete(found.key))
    reads = (Get(found.key, keys_only=True), Get(new, keys_only=True))
    return Txn((unchanged(found.key, base), unchanged(new, 0)), tuple(then), reads)


def _lease(found: Key, frame: dict[str, Any]) -> int:
    if frame["lease_choice"] == "attach":
        return int(frame["lease_text"], 16)
    return found.lease if frame["lease_choice"] == "keep" else 0


def _new_name(text: str, old: bytes) -> tuple[bytes, dict[str, str]]:
    try:
        new = bytes_of(text)
    except BadAddress as error:
        return b"", {"new": f"{str(error).capitalize()}."}
    if not new:
        return new, {"new": "A key has at least one byte."}
    return new, {"new": "This is the name it has."} if new == old else {}
