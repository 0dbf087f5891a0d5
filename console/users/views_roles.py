"""Roles of the cluster: list, one role with its permissions, and what changes them.

A permission is shown as `[key, range_end)` and with the number of keys it covers before it is
granted (console.md §3 trap 13).
"""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console.access import allow
from console.audit.record import Outcome, recorded
from console.errors import cluster_error
from console.gateway import ClusterError, Denied, auth
from console.keys.addresses import BadAddress, bytes_of, number_of, query_url
from console.keys.byte_text import show
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.roles import Role
from console.users import commands
from console.users.forms import (
    USERS_READ_MAX,
    bounds_text,
    count_of,
    ctl,
    frame,
    is_dialog,
    name_of,
    named,
    new_name,
    permission_of,
    range_of,
    refusal,
    url,
)
from console.users.lint import odd_range
from console.users.rules import KINDS, EtcdRole, Permission
from console.users.spans import SHAPES, span_of

PAGE_ROLES = 100


@allow(Role.OPERATOR)
@named
def roles(request: HttpRequest) -> HttpResponse:
    names = auth.role_names(request.gateway)
    skip = number_of(request.GET.get("skip", ""))
    following = skip + PAGE_ROLES
    shown = auth.roles(request.gateway, names[skip:following])
    context = frame(request, "roles", "Roles") | {
        "command": ctl(request).line("role", "list"),
        "rows": list(zip(shown, _all_holders(request, shown), strict=True)),
        "total": len(names),
        "first": skip + 1,
        "last": skip + len(shown),
        "first_url": request.path if skip else None,
        "next_url": query_url(request.path, skip=following) if following < len(names) else None,
    }
    return render(request, "users/roles.html", context)


def _all_holders(request: HttpRequest, roles: list[EtcdRole]) -> list[list[str] | None]:
    """Who has each of these roles; None when that cannot be told."""
    gateway = request.gateway
    try:
        names = auth.user_names(gateway)
    except Denied:
        return [None] * len(roles)
    if len(names) > USERS_READ_MAX:
        return [None] * len(roles)
    users = auth.users(gateway, names)
    return [[one.name for one in users if role.name in one.roles] for role in roles]


def _holders(request: HttpRequest, role: EtcdRole) -> list[str] | None:
    return _all_holders(request, [role])[0]


@allow(Role.OPERATOR)
@named
def role(request: HttpRequest) -> HttpResponse:
    name = name_of(request)
    found = auth.role(request.gateway, name)
    shown = show(name.encode())
    context = frame(request, "roles", shown, shown) | {
        "etcd_role": found,
        "holders": _holders(request, found),
        "shapes": SHAPES,
        "kinds": KINDS,
        "shape": "prefix",
        "kind": "read",
        "command": commands.role(ctl(request), "get", name),
    }
    return render(request, "users/role.html", context)


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def new_role(request: HttpRequest) -> HttpResponse:
    context = frame(request, "roles", "Create role", "Create role") | {
        "errors": {},
        "name_text": request.POST.get("name", request.GET.get("name", "")),
        "command": ctl(request).line("role", "add", "NAME"),
    }
    if request.method != "POST":
        return render(request, "users/new_role.html", context)
    errors: dict[str, str] = {}
    name = new_name(context["name_text"], errors)
    if not errors:
        command = commands.role(ctl(request), "add", name)
        try:
            with recorded(request, "create etcd role", name, command=command) as row:
                auth.add_role(request.gateway, name)
                row.outcome = Outcome.DONE
        except ClusterError as error:
            if not error.message.endswith("already exists"):
                return cluster_error(request, error, f"Creating the role {name}", **context)
            errors["name"] = refusal(error)
        else:
            messages.success(request, f"Created role {show(name.encode())}. It allows nothing yet.")
            return redirect(_page(request, name))
    return render(request, "users/new_role.html", context | {"errors": errors}, status=422)


def _page(request: HttpRequest, name: str) -> str:
    return url(reverse("etcd_role", args=[request.cluster.slug]), name=name)


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def delete_role(request: HttpRequest) -> HttpResponse:
    name = name_of(request)
    found = auth.role(request.gateway, name)
    command = commands.role(ctl(request), "delete", name)
    error = ""
    if request.method == "POST":
        if is_confirmed(request):
            with recorded(request, "delete etcd role", name, command=command) as row:
                granted = [f"{one.kind} {bounds_text(one)}" for one in found.permissions]
                row.detail = f"with {'; '.join(granted) or 'no permissions'}"
                auth.delete_role(request.gateway, name)
                row.outcome = Outcome.DONE
            messages.success(request, f"Deleted role {show(name.encode())}.")
            return redirect("roles", request.cluster.slug)
        error = WRONG_NAME
    context = frame(request, "roles", "Delete role", show(name.encode()), "Delete") | {
        "etcd_role": found,
        "holders": _holders(request, found),
        "confirm_error": error,
        "command": command,
        "back": _page(request, name),
    }
    return render(request, "users/delete_role.html", context, status=422 if error else 200)


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def grant_permission(request: HttpRequest) -> HttpResponse:
    """The form is a GET that shows what would be granted; only the confirmation is a POST, and
    it carries the bounds themselves, as they were seen."""
    name = name_of(request)
    found = auth.role(request.gateway, name)
    if request.method == "POST":
        return _grant(request, name, _exact(request))
    errors: dict[str, str] = {}
    asked = request.GET
    permission = permission_of(asked, errors) if "shape" in asked else None
    line = ctl(request).line("role", "grant-permission", "ROLE", "KIND", "KEY")
    context = frame(request, "roles", "Grant permission", show(name.encode()), "Grant") | {
        "etcd_role": found,
        "shapes": SHAPES,
        "kinds": KINDS,
        "shape": asked.get("shape", "prefix"),
        "kind": asked.get("kind", "read"),
        "key_text": asked.get("key", ""),
        "end_text": asked.get("end", ""),
        "errors": errors,
        "permission": permission,
        "command": commands.grant_permission(ctl(request), name, permission)
        if permission
        else line,
    }
    if permission:
        context |= _effect(request, found, permission)
    return render(request, "users/grant.html", context)


def _grant(request: HttpRequest, name: str, permission: Permission) -> HttpResponse:
    command = commands.grant_permission(ctl(request), name, permission)
    target = f"{permission.kind_words} {bounds_text(permission)} to {name}"
    with recorded(request, "grant permission", target, command=command) as row:
        auth.grant_permission(request.gateway, name, permission)
        row.outcome = Outcome.DONE
    messages.success(request, f"Granted {permission.kind_words} on {bounds_text(permission)}.")
    return redirect(_page(request, name))


def _effect(request: HttpRequest, role: EtcdRole, permission: Permission) -> dict[str, object]:
    wire = (permission.key, permission.range_end)
    same = [one for one in role.permissions if (one.key, one.range_end) == wire]
    return {
        "count": count_of(request, permission.span),
        "odd": odd_range(permission),
        "replaced": next(iter(same), None),
        "is_same": permission in role.permissions,
        "holders": _holders(request, role),
    }


def _exact(request: HttpRequest) -> Permission:
    kind = request.POST.get("kind", "")
    if kind not in KINDS:
        raise BadAddress("the kind of permission is missing")
    key, end = bytes_of(request.POST.get("key", "")), bytes_of(request.POST.get("range_end", ""))
    permission = Permission(kind, key, end)
    if not key or permission.span.is_empty:
        # Older servers take such bounds and newer ones do not (spec/auth.md §4).
        raise BadAddress("the bounds mean no range")
    return permission


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def revoke_permission(request: HttpRequest) -> HttpResponse:
    """One permission, named by its bounds: the server asks for both to be exact."""
    name = name_of(request)
    wire = (bytes_of(request.GET.get("key", "")), bytes_of(request.GET.get("range_end", "")))
    found = auth.role(request.gateway, name)
    held = [one for one in found.permissions if (one.key, one.range_end) == wire]
    if not held:
        raise BadAddress("the range is none that this role has")
    permission = held[0]
    command = commands.revoke_permission(ctl(request), name, permission)
    if request.method == "POST":
        target = f"{permission.kind_words} {bounds_text(permission)} from {name}"
        with recorded(request, "revoke permission", target, command=command) as row:
            auth.revoke_permission(request.gateway, name, permission)
            row.outcome = Outcome.DONE
        done = f"Revoked {permission.kind_words} on {bounds_text(permission)}."
        messages.success(request, done)
        return redirect(_page(request, name))
    context = frame(request, "roles", "Revoke permission", show(name.encode()), "Revoke") | {
        "etcd_role": found,
        "permission": permission,
        "count": count_of(request, permission.span),
        "holders": _holders(request, found),
        "is_dialog": is_dialog(request),
        "command": command,
    }
    template = "users/_revoke.html" if is_dialog(request) else "users/revoke.html"
    return render(request, template, context)


@allow(Role.OPERATOR)
@named
def permission_range(request: HttpRequest) -> HttpResponse:
    """The bounds a shape means, while it is typed."""
    errors: dict[str, str] = {}
    wire = range_of(request.GET, errors)
    context = {"wire": wire, "span": span_of(*wire) if wire else None, "errors": errors}
    return render(request, "users/_bounds.html", context)
