"""Authentication on and off: level 4 of the danger ladder, with checks before either.

The console's own credentials are proven to work after enabling: a password cannot be tried while
authentication is off, so the stored one can be set first, and the connection looks again when
the cluster has answered.
"""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console.access import allow
from console.audit.record import Outcome, note, recorded
from console.clusters.own import password_of
from console.gateway import ClusterError, Denied, auth
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.roles import Role
from console.users import commands
from console.users.forms import ctl, directory_of, frame, named, url
from console.users.identity import own_name
from console.users.preflight import Check, Identity, before_disabling, before_enabling, losses
from console.users.rules import ROOT, EtcdUser


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def enable_auth(request: HttpRequest) -> HttpResponse:
    if auth.is_enabled(request.gateway):
        return _already(request, "on")
    own = identity_of(request)
    directory = directory_of(request)
    checks = before_enabling(_found(request, ROOT), own)
    more = {"losses": losses(directory), "directory": directory, "own_identity": own}
    return _ritual(request, "enable", checks, more)


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def disable_auth(request: HttpRequest) -> HttpResponse:
    if not auth.is_enabled(request.gateway):
        return _already(request, "off")
    own = identity_of(request)
    return _ritual(request, "disable", before_disabling(own), {"own_identity": own})


def identity_of(request: HttpRequest) -> Identity:
    """As whom the connection comes when it is asked for a name. A password goes before a
    certificate: etcd looks at the token first (spec/auth.md §6)."""
    cluster = request.cluster
    name = own_name(cluster)
    way = "nothing"
    if cluster.user_name:
        way = "password" if password_of(cluster) else "nothing"
    elif name:
        way = "certificate"
    return Identity(name, way, _found(request, name))


def _found(request: HttpRequest, name: str) -> EtcdUser | None:
    """The user, None when there is none of this name or it may not be known."""
    if not name:
        return None
    try:
        return auth.user(request.gateway, name)
    except ClusterError as error:
        if auth.is_absent(error) or error.code == "PERMISSION_DENIED":
            return None
        raise


def _already(request: HttpRequest, state: str) -> HttpResponse:
    messages.info(request, f"Authentication is {state} already.")
    return redirect("users", request.cluster.slug)


def _ritual(
    request: HttpRequest, verb: str, checks: list[Check], more: dict[str, object]
) -> HttpResponse:
    is_ready = all(check.is_met for check in checks)
    reason = request.POST.get("reason", "").strip()[:500]
    errors: dict[str, str] = {}
    if request.method == "POST":
        if not is_ready:
            errors["checks"] = "Nothing was changed: a check is not met."
        if not reason:
            errors["reason"] = "A reason is needed: it stands in the audit."
        if not is_confirmed(request):
            errors["confirm"] = WRONG_NAME
        if not errors:
            return _switch(request, verb, reason)
    title = f"{verb.capitalize()} authentication"
    context = frame(request, "users", title, title) | {
        "verb": verb,
        "checks": [(check, _remedy(request, check.remedy)) for check in checks],
        "is_ready": is_ready,
        "reason": reason,
        "errors": errors,
        "confirm_error": errors.get("confirm", ""),
        "command": ctl(request).line("auth", verb),
        **more,
    }
    return render(request, "users/auth.html", context, status=422 if errors else 200)


def _remedy(request: HttpRequest, remedy: str) -> tuple[str, str] | None:
    """The page that helps, and its words."""
    slug, own = request.cluster.slug, own_name(request.cluster)
    new_user, role = reverse("new_user", args=[slug]), reverse("user_role", args=[slug])
    return {
        "create-root": (url(new_user, name=ROOT), "Create the user root"),
        "grant-root": (url(role, user=ROOT, role=ROOT), "Grant it the role root"),
        "connection": (reverse("edit_cluster", args=[slug]), "Change the connection"),
        "create-own": (url(new_user, name=own), f"Create the user {own}") if own else None,
        "grant-own": (url(role, user=own, role=ROOT), f"Grant {own} the role root"),
    }.get(remedy)


def _switch(request: HttpRequest, verb: str, reason: str) -> HttpResponse:
    cluster = request.cluster
    if verb == "enable" and "set_password" in request.POST and cluster.user_name:
        _set_own_password(request)
    command = ctl(request).line("auth", verb)
    with recorded(request, f"{verb} authentication", cluster.name, command=command) as row:
        row.detail = f"reason: {reason}"
        (auth.enable if verb == "enable" else auth.disable)(request.gateway)
        row.outcome = Outcome.DONE
    if verb == "enable" and (refusal := _shut_out(request)):
        context = frame(request, "users", "Authentication is on", "Enable") | {"refusal": refusal}
        return render(request, "users/shut_out.html", context, status=403)
    messages.success(request, f"Authentication is {'on' if verb == 'enable' else 'off'}.")
    return redirect("users", cluster.slug)


def _set_own_password(request: HttpRequest) -> None:
    """No password can be tried while authentication is off; one that is set is known to work."""
    cluster = request.cluster
    name = cluster.user_name
    command = commands.user(ctl(request), "passwd", name)
    with recorded(request, "set etcd password", name, command=command) as row:
        auth.change_password(request.gateway, name, password_of(cluster))
        row.outcome = Outcome.DONE
        row.detail = "to the one this connection holds"


def _shut_out(request: HttpRequest) -> ClusterError | None:
    """What the cluster says to the connection now that it asks for a name; None: welcome."""
    try:
        auth.user_names(request.gateway)
    except Denied as error:
        note(
            request,
            "sign in to etcd",
            own_name(request.cluster),
            outcome=Outcome.REFUSED,
            detail=error.message,
            cluster=request.cluster,
        )
        return error
    return None
