"""Writes to one key: new, edit, delete, undo. Each is one txn guarded by mod_revision.

Edit is level 1 of the danger ladder: form, diff, put, a toast with Undo. When somebody else was
quicker nothing is written and the conflict page shows base, theirs and yours (traps 1, 2, 10).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.audit.record import Outcome, etcdctl_for, recorded
from console.errors import cluster_error, form_again, plain
from console.gateway import ClusterError, Compacted, Key, Written
from console.keys.addresses import BadAddress, key_of, key_url, list_url, number_of
from console.keys.byte_text import show
from console.keys.decoders import editable_text, visible, why_not_editable
from console.keys.diff import Diff, compare
from console.keys.draft import Draft
from console.keys.lens import SEPARATOR
from console.keys.merge import merge
from console.keys.tree import base_of
from console.keys.views_key import key_frame, lease_of
from console.roles import Role


@allow(Role.EDITOR, "GET", "POST", writes=True)
def new_key(request: HttpRequest) -> HttpResponse:
    frame: dict[str, Any] = {
        "title": "New key",
        "rail_current": "keys",
        "crumbs": [("Keys", "keys"), ("New key", None)],
    }
    if request.method != "POST":
        draft = Draft(key_text=request.GET.get("key", ""))
        tool = etcdctl_for(request.cluster)
        command = tool.put(b"KEY", b"VALUE", base=0, lease=0, keeps_lease=False)
        context = {**frame, "draft": draft, "errors": {}, "command": command}
        return render(request, "keys/form.html", context)
    draft = Draft.from_post(request.POST)
    errors = draft.errors()
    if errors:
        context = {**frame, "draft": draft, "errors": errors}
        return render(request, "keys/form.html", context, status=422)
    return _put(request, draft, frame)


@allow(Role.EDITOR, "GET", "POST", writes=True)
def edit_key(request: HttpRequest) -> HttpResponse:
    try:
        name = key_of(request)
    except BadAddress as error:
        return plain(request, "This address names no key", str(error), 400)
    frame = key_frame(name) | {"is_edit": True}
    if request.method == "POST":
        draft = Draft.from_post(request.POST, key_text=show(name))
        errors = draft.errors()
        if errors or request.POST.get("step") == "edit":
            context = {**frame, "draft": draft, "errors": errors}
            return render(request, "keys/form.html", context, status=422 if errors else 200)
        step = _put if request.POST.get("step") == "put" else _review
        return step(request, draft, frame)
    try:
        found, _ = request.gateway.key(name)
    except ClusterError as error:
        return cluster_error(request, error, f"Reading the key {show(name)}", **frame)
    if found is None:
        return render(request, "keys/absent.html", frame, status=404)
    text = editable_text(found.value or b"")
    if text is None:
        why = why_not_editable(found.value or b"")
        context = {**frame, "found": found, "why": why}
        return render(request, "keys/not_editable.html", context, status=409)
    draft = Draft(
        key_text=show(name), value_text=text, base=found.mod_revision, held_lease=found.lease
    )
    context = {
        **frame,
        "draft": draft,
        "errors": {},
        "lease": lease_of(request, found),
        "command": etcdctl_for(request.cluster).get(name),
    }
    return render(request, "keys/form.html", context)


def _review(request: HttpRequest, draft: Draft, frame: dict[str, Any]) -> HttpResponse:
    """What the put would change; nothing is written."""
    try:
        current, newest = request.gateway.key(draft.key)
    except ClusterError as error:
        return cluster_error(request, error, f"Reading the key {draft.key_text}", **frame)
    if current is None or current.mod_revision != draft.base:
        return _conflict(request, draft, current, newest, frame)
    context = {
        **frame,
        "draft": draft,
        "found": current,
        "diff": compare(_text(current), visible(draft.value_text)),
        "command": _command(request, draft),
    }
    return render(request, "keys/review.html", context)


def _put(request: HttpRequest, draft: Draft, frame: dict[str, Any]) -> HttpResponse:
    action = "edit key" if draft.base else "put key"
    try:
        with recorded(
            request,
            action,
            draft.key_text,
            command=_command(request, draft),
            revision_before=draft.base or None,
        ) as row:
            written = request.gateway.put(
                draft.key,
                draft.value,
                base_mod_revision=draft.base,
                lease=draft.lease,
                keeps_lease=draft.keeps_lease,
            )
            note_outcome(row, written)
    except ClusterError as error:
        if error.code == "NOT_FOUND":  # spec/kv.md P2: nothing was written
            errors = {"lease": "There is no lease with this id on the cluster."}
            context = {**frame, "draft": draft, "errors": errors}
            return render(request, "keys/form.html", context, status=422)
        return _failed(request, draft, error, frame)
    if not written.is_done:
        return _conflict(request, draft, written.found, written.revision, frame)
    toast(request, "Put", draft.key, mod=written.revision, to=draft.base)
    return redirect(key_url(request.cluster, draft.key))


def _failed(
    request: HttpRequest, draft: Draft, error: ClusterError, frame: dict[str, Any]
) -> HttpResponse:
    """The form again with what was typed. Sending it again is safe even when the first put's
    fate is unknown: the txn compares the revision the edit began from."""
    return form_again(request, "keys/form.html", error, {**frame, "draft": draft, "errors": {}})


def _command(request: HttpRequest, draft: Draft) -> str:
    return etcdctl_for(request.cluster).put(
        draft.key,
        draft.value,
        base=draft.base,
        lease=draft.lease,
        keeps_lease=draft.keeps_lease,
    )


def note_outcome(row: Any, written: Written) -> None:
    row.outcome = Outcome.DONE if written.is_done else Outcome.CONFLICT
    row.revision_after = written.revision


def toast(request: HttpRequest, what: str, key: bytes, *, mod: int, to: int) -> None:
    """`mod`: what the key must still be at for an undo; `to`: the revision that goes back to."""
    undo = key_url(request.cluster, key, "undo_put", mod=0 if what == "Deleted" else mod, to=to)
    messages.success(request, f"{what} {show(key)} at revision {mod}.", extra_tags=f"undo:{undo}")


def _conflict(
    request: HttpRequest, draft: Draft, theirs: Key | None, newest: int, frame: dict[str, Any]
) -> HttpResponse:
    """Somebody else was quicker. Base, theirs, yours; nothing is lost and nothing written."""
    began_from = _key_at(request, draft.key, draft.base)
    base = _text(began_from) if began_from else None
    their_text = _text(theirs)
    yours = visible(draft.value_text)
    now = theirs.mod_revision if theirs else 0
    context = {
        **frame,
        "command": _command(request, replace(draft, base=now)),
        "draft": draft,
        "base": base,
        "theirs": theirs,
        "their_text": their_text,
        "newest": newest,
        "their_diff": _diff(base, their_text),
        "your_text": yours,
        "your_diff": compare(their_text, yours),
        "merged": _merged(began_from, theirs, draft.value_text),
        "may_overwrite": theirs is None or editable_text(theirs.value or b"") is not None,
    }
    return render(request, "keys/conflict.html", context, status=409)


def _key_at(request: HttpRequest, key: bytes, revision: int) -> Key | None:
    """What the draft began from; None when there was nothing or it was compacted away."""
    if not revision:
        return None
    try:
        return request.gateway.key(key, revision)[0]
    except Compacted:
        return None


def _merged(began_from: Key | None, theirs: Key | None, yours: str) -> str | None:
    """Both edits put together; None where they meet, or where a side is no text."""
    sides = [editable_text(one.value or b"") if one else None for one in (began_from, theirs)]
    if sides[0] is None or sides[1] is None:
        return None
    return merge(sides[0], sides[1], yours)


def _text(key: Key | None) -> str:
    """A value for the eye only."""
    return visible((key.value or b"").decode(errors="replace")) if key else ""


def _diff(base: str | None, theirs: str) -> Diff | None:
    return None if base is None else compare(base, theirs)


@allow(Role.EDITOR, "GET", "POST", writes=True)
def delete_key(request: HttpRequest) -> HttpResponse:
    """Level 2: a page or dialog names the object; the delete is guarded by what it showed."""
    try:
        name, base = key_of(request), number_of(request.POST.get("base", ""))
    except BadAddress as error:
        return plain(request, "This address names no key", str(error), 400)
    frame = key_frame(name)
    if request.method == "POST":
        return _delete(request, name, base, frame)
    try:
        found, _ = request.gateway.key(name)
    except ClusterError as error:
        return cluster_error(request, error, f"Reading the key {show(name)}", **frame)
    if found is None:
        return render(request, "keys/absent.html", frame, status=404)
    is_dialog = request.headers.get("HX-Target") == "dialog"
    context = {
        **frame,
        "found": found,
        "is_dialog": is_dialog,
        "command": etcdctl_for(request.cluster).delete(name, base=found.mod_revision),
    }
    template = "keys/_delete.html" if is_dialog else "keys/delete.html"
    return render(request, template, context)


def _delete(request: HttpRequest, name: bytes, base: int, frame: dict[str, Any]) -> HttpResponse:
    if not base:
        return plain(request, "This form is incomplete", "It does not say which revision.", 400)
    command = etcdctl_for(request.cluster).delete(name, base=base)
    try:
        with recorded(
            request, "delete key", show(name), command=command, revision_before=base
        ) as row:
            written = request.gateway.delete(name, base_mod_revision=base)
            note_outcome(row, written)
    except ClusterError as error:
        return cluster_error(request, error, f"Deleting the key {show(name)}", **frame)
    if not written.is_done:
        context = {**frame, "found": written.found, "base": base, "newest": written.revision}
        return render(request, "keys/delete_conflict.html", context, status=409)
    toast(request, "Deleted", name, mod=written.revision, to=base)
    return redirect("keys", request.cluster.slug)


@allow(Role.EDITOR, "POST", writes=True)
def undo_put(request: HttpRequest) -> HttpResponse:
    """Take the last write of this key back, if nobody wrote it since.

    `mod` is what the key must still be at (0: deleted), `to` the revision to go back to (0: the
    key did not exist then, so it goes).
    """
    try:
        name = key_of(request)
        mod, to = number_of(request.GET.get("mod", "")), number_of(request.GET.get("to", ""))
    except BadAddress as error:
        return plain(request, "This address names no key", str(error), 400)
    frame = key_frame(name)
    try:
        written = _undo(request, name, mod, to)
    except Compacted:
        messages.error(request, f"{show(name)}: the earlier value has been compacted away.")
        return redirect(key_url(request.cluster, name))
    except ClusterError as error:
        return cluster_error(request, error, f"Undoing the write to {show(name)}", **frame)
    if not written.is_done:
        messages.error(request, f"{show(name)} changed again: nothing was undone.")
    else:
        messages.success(request, f"Undone: {show(name)} is as it was before.")
        if not to:  # it is gone: what is left to look at is where it was
            return redirect(list_url(request.cluster, base_of(name, SEPARATOR)))
    return redirect(key_url(request.cluster, name))


def _undo(request: HttpRequest, name: bytes, mod: int, to: int) -> Written:
    tool = etcdctl_for(request.cluster)
    if not to:
        with recorded(
            request,
            "undo put",
            show(name),
            command=tool.delete(name, base=mod),
            revision_before=mod,
        ) as row:
            written: Written = request.gateway.delete(name, base_mod_revision=mod)
            note_outcome(row, written)
            return written
    old, _ = request.gateway.key(name, to)
    now, newest = request.gateway.key(name)
    if old is None or (now.mod_revision if now else 0) != mod:
        return Written(False, newest, now)
    keeps_lease = now is not None and now.lease == old.lease
    lease = 0 if keeps_lease else old.lease
    command = tool.put(name, old.value, base=mod, lease=lease, keeps_lease=keeps_lease)
    with recorded(request, "undo", show(name), command=command, revision_before=mod or None) as row:
        written = request.gateway.put(
            name, old.value, base_mod_revision=mod, lease=lease, keeps_lease=keeps_lease
        )
        note_outcome(row, written)
        return written
