"""Leases: who holds what and for how long; grant, keep alive once, revoke.

Revoking deletes keys, so it is level 2 of the danger ladder: the dialog names every key it would
take with it, and a lease that holds other keys by then is shown again instead of revoked.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.audit.record import Outcome, etcdctl_for, recorded
from console.errors import cluster_error, form_again, plain
from console.gateway import ClusterError, Denied, LeaseTime
from console.keys.addresses import INT64_MAX, BadAddress, number_of, query_url
from console.roles import Role

PAGE_LEASES = 100
KEYS_SHOWN = 200
TTL_SECONDS_MAX = 9_000_000_000  # spec/lease.md G3
HEX_ID = re.compile(r"-?[0-9a-f]{1,16}", re.IGNORECASE | re.ASCII)


def lease_id(text: str) -> int:
    """An id as etcdctl writes it, hexadecimal; some have a sign."""
    if not HEX_ID.fullmatch(text) or not -INT64_MAX - 1 <= int(text, 16) <= INT64_MAX:
        raise BadAddress("a lease id is a hexadecimal number, as etcdctl lease list shows it")
    return int(text, 16)


@allow(Role.VIEWER)
def leases(request: HttpRequest) -> HttpResponse:
    frame: dict[str, Any] = {
        "title": "Leases",
        "rail_current": "leases",
        "crumbs": [("Leases", None)],
        "command": etcdctl_for(request.cluster).line("lease", "list"),
    }
    try:
        skip = number_of(request.GET.get("skip", ""))
    except BadAddress as error:
        return plain(request, "This address names no page", str(error), 400)
    try:
        listed = request.gateway.leases(skip, PAGE_LEASES)
    except Denied as error:
        return render(request, "leases/list.html", {**frame, "denied": error}, status=403)
    except ClusterError as error:
        return cluster_error(request, error, "Reading the leases", **frame)
    following = skip + PAGE_LEASES
    context = {
        "listed": listed,
        "rows": sorted(listed.leases, key=lambda lease: lease.remaining_seconds),
        "first_number": skip + 1,
        "last_number": min(following, listed.total),
        "first_url": request.path if skip else None,
        "next_url": query_url(request.path, skip=following) if following < listed.total else None,
    }
    return render(request, "leases/list.html", frame | context)


@allow(Role.VIEWER)
def lease(request: HttpRequest, lease: str) -> HttpResponse:
    try:
        number = lease_id(lease)
    except BadAddress as error:
        return plain(request, "This address names no lease", f"In it {error}.", 400)
    frame = _frame(number)
    try:
        context, found = _keys_of(request, number)
    except ClusterError as error:
        return cluster_error(request, error, f"Reading the lease {number:x}", **frame)
    command = etcdctl_for(request.cluster).lease("timetolive", number, "--keys")
    status = 404 if found.is_gone else 200
    return render(
        request, "leases/lease.html", frame | context | {"command": command}, status=status
    )


def _frame(number: int) -> dict[str, Any]:
    return {
        "title": f"Lease {number:x}",
        "rail_current": "leases",
        "crumbs": [("Leases", "leases"), (f"{number:x}", None)],
        "lease_hex": f"{number:x}",
    }


def _keys_of(request: HttpRequest, number: int) -> tuple[dict[str, Any], LeaseTime]:
    found = request.gateway.lease_time(number, has_keys=True)
    context = {
        "lease": found,
        "keys": found.keys[:KEYS_SHOWN],
        "keys_left_out": max(0, len(found.keys) - KEYS_SHOWN),
        "digest": _digest(found),
    }
    return context, found


def _digest(lease: LeaseTime) -> str:
    """Names a set of attached keys: what somebody saw before confirming."""
    pieces = b"".join(len(key).to_bytes(4, "big") + key for key in lease.keys)
    return hashlib.sha256(pieces).hexdigest()[:32]


@allow(Role.EDITOR, "GET", "POST", writes=True)
def grant_lease(request: HttpRequest) -> HttpResponse:
    frame: dict[str, Any] = {
        "title": "Grant lease",
        "rail_current": "leases",
        "crumbs": [("Leases", "leases"), ("Grant lease", None)],
        "errors": {},
        "ttl": request.POST.get("ttl", "60").strip(),
        "id_text": request.POST.get("id", "").strip(),
    }
    if request.method != "POST":
        command = etcdctl_for(request.cluster).line("lease", "grant", frame["ttl"])
        return render(request, "leases/grant.html", frame | {"command": command})
    seconds, number, errors = _granted(frame["ttl"], frame["id_text"])
    if errors:
        return render(request, "leases/grant.html", frame | {"errors": errors}, status=422)
    flags = [str(seconds)]  # etcdctl cannot choose the id of a lease
    command = etcdctl_for(request.cluster).line("lease", "grant", *flags)
    try:
        with recorded(
            request, "grant lease", f"{number:x}" if number else "", command=command
        ) as row:
            granted = request.gateway.grant_lease(seconds, number)
            row.target = granted.id_hex
            row.outcome = Outcome.DONE
    except ClusterError as error:
        if error.code == "FAILED_PRECONDITION":
            errors = {"id": "There is a lease with this id already."}
            return render(request, "leases/grant.html", frame | {"errors": errors}, status=422)
        return form_again(request, "leases/grant.html", error, frame)
    longer = f", the least this cluster grants, instead of {seconds}"
    said = f"Granted lease {granted.id_hex} for {granted.granted_seconds} s"
    messages.success(request, said + (longer if granted.granted_seconds > seconds else "") + ".")
    return redirect("lease", request.cluster.slug, granted.id_hex)


def _granted(ttl: str, id_text: str) -> tuple[int, int, dict[str, str]]:
    errors: dict[str, str] = {}
    seconds = number = 0
    if ttl.isascii() and ttl.isdecimal() and 0 < len(ttl) <= 10:
        seconds = int(ttl)
    if not 1 <= seconds <= TTL_SECONDS_MAX:
        errors["ttl"] = "Whole seconds, from 1 to 9 000 000 000."
    if id_text:
        try:
            number = lease_id(id_text)
        except BadAddress as error:
            errors["id"] = f"{str(error).capitalize()}."
    return seconds, number, errors


@allow(Role.EDITOR, "POST", writes=True)
def keep_alive(request: HttpRequest, lease: str) -> HttpResponse:
    try:
        number = lease_id(lease)
    except BadAddress as error:
        return plain(request, "This address names no lease", f"In it {error}.", 400)
    command = etcdctl_for(request.cluster).lease("keep-alive", number, "--once")
    try:
        with recorded(request, "keep lease alive", f"{number:x}", command=command) as row:
            renewed = request.gateway.keep_lease_alive(number)
            row.outcome = Outcome.FAILED if renewed.is_gone else Outcome.DONE
            row.detail = "the lease has ended" if renewed.is_gone else ""
    except ClusterError as error:
        return cluster_error(request, error, f"Keeping alive {number:x}", **_frame(number))
    if renewed.is_gone:
        messages.error(request, f"Lease {number:x} has ended: it cannot be kept alive.")
    else:
        messages.success(
            request, f"Lease {number:x} lives for another {renewed.remaining_seconds} s."
        )
    return redirect("lease", request.cluster.slug, f"{number:x}")


@allow(Role.EDITOR, "GET", "POST", writes=True)
def revoke_lease(request: HttpRequest, lease: str) -> HttpResponse:
    try:
        number = lease_id(lease)
    except BadAddress as error:
        return plain(request, "This address names no lease", f"In it {error}.", 400)
    frame = _frame(number)
    try:
        context, found = _keys_of(request, number)
        if found.is_gone:
            return render(request, "leases/lease.html", frame | context, status=404)
        is_other = request.POST.get("keys") != context["digest"]
        if request.method == "POST" and not is_other:
            return _revoke(request, found)
    except ClusterError as error:
        return cluster_error(request, error, f"Revoking the lease {number:x}", **frame)
    is_dialog = request.headers.get("HX-Target") == "dialog"
    context |= {
        "is_dialog": is_dialog,
        "has_changed": request.method == "POST",
        "command": etcdctl_for(request.cluster).lease("revoke", number),
    }
    template = "leases/_revoke.html" if is_dialog else "leases/revoke.html"
    status = 409 if request.method == "POST" else 200
    return render(request, template, frame | context, status=status)


def _revoke(request: HttpRequest, found: LeaseTime) -> HttpResponse:
    command = etcdctl_for(request.cluster).lease("revoke", found.id)
    with recorded(request, "revoke lease", found.id_hex, command=command) as row:
        row.detail = f"with {len(found.keys)} keys"
        row.revision_after = request.gateway.revoke_lease(found.id)
        row.outcome = Outcome.DONE
    count = len(found.keys)
    went = f" {count} key{'s' if count != 1 else ''} went with it" if count else ""
    at = f" at revision {row.revision_after}" if count else ""
    messages.success(request, f"Revoked lease {found.id_hex}.{went}{at}{'.' if count else ''}")
    return redirect("leases", request.cluster.slug)
