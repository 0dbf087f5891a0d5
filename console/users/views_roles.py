"""Roles of the cluster: list, one role with its permissions, and what changes them.

A permission is shown as `[key, range_end)` and with the number of keys it covers before it is
granted (console.md §3 trap 13).
"""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.audit.record import Outcome, recorded
from console.gateway import Denied, auth
from console.keys.addresses import BadAddress, bytes_of, number_of, query_url
from console.keys.byte_text import show
from console.roles import Role
from console.users import by_name, commands
from console.users.by_name import ROLE
from console.users.forms import (
    bounds_text,
    count_of,
    ctl,
    directory_of,
    frame,
    is_dialog,
    name_of,
    named,
    permission_of,
    range_of,
)
from console.users.lint import odd_range
from console.users.rules import KINDS, Directory, EtcdRole, Permission
from console.users.spans import SHAPES, span_of

PAGE_ROLES = 100


@allow(Role.OPERATOR)
@named
def roles(request: HttpRequest) -> HttpResponse:
    """`q`: a part of the name."""
    names = auth.role_names(request.gateway)
    words = request.GET.get("q", "").strip()
    found = [name for name in names if words.lower() in show(name.encode()).lower()]
    skip = number_of(request.GET.get("skip", ""))
    following = skip + PAGE_ROLES
    directory = directory_of(request)
    read = {one.name: one for one in directory.roles}
    page = found[skip:following]
    more = auth.roles(request.gateway, [name for name in page if name not in read])
    read |= {one.name: one for one in more}
    shown = [read[name] for name in page if name in read]
    asked = {"q": words} if words else {}
    context = frame(request, "roles", "Roles") | {
        "command": ctl(request).line("role", "list"),
        "rows": [(one, directory.holders_of(one.name)) for one in shown],
        "directory": directory,
        "q": words,
        "total": len(names),
        "found": len(found),
        "first": skip + 1,
        "last": skip + len(shown),
        "first_url": query_url(request.path, **asked) if skip else None,
        "next_url": query_url(request.path, skip=following, **asked)
        if following < len(found)
        else None,
    }
    return render(request, "users/roles.html", context)


def _holders(request: HttpRequest, role: str) -> dict[str, object]:
    """Who has the role, as far as the users are read by now; None when that may not be told."""
    try:
        directory = directory_of(request)
    except Denied:
        return {"holders": None, "directory": None}
    return {"holders": directory.holders_of(role), "directory": directory}


def _all_holders(request: HttpRequest, role: str) -> dict[str, object]:
    """For plans: nobody, or some, only where every user was asked."""
    found = _holders(request, role)
    directory = found["directory"]
    is_whole = isinstance(directory, Directory) and not directory.users_left_out
    return found if is_whole else {"holders": None}


@allow(Role.OPERATOR)
@named
def role(request: HttpRequest) -> HttpResponse:
    name = name_of(request)
    found = auth.role(request.gateway, name)
    shown = show(name.encode())
    context = frame(request, "roles", shown, shown) | {
        "etcd_role": found,
        **_holders(request, name),
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
    def plan(name: str, errors: dict[str, str]) -> tuple[str, Callable[[], None]]:
        command = commands.role(ctl(request), "add", name)
        return command, lambda: auth.add_role(request.gateway, name)

    return by_name.create(request, ROLE, plan)


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def delete_role(request: HttpRequest) -> HttpResponse:
    name = name_of(request)
    found = auth.role(request.gateway, name)
    granted = [f"{one.kind} {bounds_text(one)}" for one in found.permissions]
    return by_name.delete(
        request,
        ROLE,
        name,
        command=commands.role(ctl(request), "delete", name),
        detail=f"with {'; '.join(granted) or 'no permissions'}",
        carry_out=lambda: auth.delete_role(request.gateway, name),
        more={"etcd_role": found, **_all_holders(request, name)},
    )


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
    return redirect(ROLE.page(request, name))


def _effect(request: HttpRequest, role: EtcdRole, permission: Permission) -> dict[str, object]:
    wire = (permission.key, permission.range_end)
    same = [one for one in role.permissions if (one.key, one.range_end) == wire]
    return {
        "count": count_of(request, permission.span),
        "odd": odd_range(permission),
        "replaced": next(iter(same), None),
        "is_same": permission in role.permissions,
        **_all_holders(request, role.name),
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
        return redirect(ROLE.page(request, name))
    context = frame(request, "roles", "Revoke permission", show(name.encode()), "Revoke") | {
        "etcd_role": found,
        "permission": permission,
        "count": count_of(request, permission.span),
        **_all_holders(request, name),
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
