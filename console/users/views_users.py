"""Users of the cluster: the matrix of users and roles, one user, and what changes them.

Granting and revoking a role is level 2 of the danger ladder, deleting a user and setting a
password level 3 (console.md §5).
"""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.audit.record import Outcome, note, recorded
from console.clusters.own import OwnSignIn, remember
from console.clusters.secrets import encrypt
from console.gateway import Denied, auth, clients
from console.keys.addresses import number_of, query_url
from console.keys.byte_text import show
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.models import Cluster
from console.roles import Role
from console.users import by_name, commands
from console.users.by_name import USER
from console.users.forms import (
    count_of,
    ctl,
    frame,
    is_dialog,
    name_of,
    named,
    new_password,
)
from console.users.rules import RIGHTS, ROOT, EtcdRole, EtcdUser
from console.users.spans import union

PAGE_USERS = 50
COLUMNS_MAX = 24
RANGES_COUNTED = 8


@allow(Role.OPERATOR)
@named
def users(request: HttpRequest) -> HttpResponse:
    """Users × roles."""
    names = auth.user_names(request.gateway)
    words, role_words = (request.GET.get(field, "").strip() for field in ("q", "role"))
    found = [name for name in names if words.lower() in show(name.encode()).lower()]
    skip = number_of(request.GET.get("skip", ""))
    shown = auth.users(request.gateway, found[skip : skip + PAGE_USERS])
    columns, left_out = _columns(auth.role_names(request.gateway), shown, role_words)
    following = skip + PAGE_USERS
    asked = {k: v for k, v in (("q", words), ("role", role_words)) if v}
    context = frame(request, "users", "Users") | {
        "command": ctl(request).line("user", "list"),
        "is_enabled": auth.is_enabled(request.gateway),
        "columns": columns,
        "columns_left_out": left_out,
        "rows": [(one, [(role, role in one.roles) for role in columns]) for one in shown],
        "total": len(names),
        "found": len(found),
        "first": skip + 1,
        "last": skip + len(shown),
        "q": words,
        "role_words": role_words,
        "first_url": query_url(request.path, **asked) if skip else None,
        "next_url": query_url(request.path, skip=following, **asked)
        if following < len(found)
        else None,
    }
    return render(request, "users/list.html", context)


def _columns(known: list[str], shown: list[EtcdUser], words: str) -> tuple[list[str], int]:
    """Roles as columns, those that somebody shown holds before others, and how many did not
    find a place. Role root is magic by name: it can be held without having been added."""
    held = {role for one in shown for role in one.roles}
    names = [ROOT, *(name for name in known if name != ROOT)]
    names = [name for name in names if words.lower() in show(name.encode()).lower()]
    kept = sorted(names, key=lambda name: name not in held)[:COLUMNS_MAX]
    return [name for name in names if name in kept], len(names) - len(kept)


@allow(Role.OPERATOR)
@named
def user(request: HttpRequest) -> HttpResponse:
    name = name_of(request)
    found = auth.user(request.gateway, name)
    roles = auth.roles(request.gateway, found.roles)
    shown = show(name.encode())
    context = frame(request, "users", shown, shown) | {
        "etcd_user": found,
        "etcd_roles": roles,
        "reach": reach(roles),
        "grantable": _grantable(request, found),
        "command": commands.user(ctl(request), "get", name, flags=("--detail",)),
    }
    return render(request, "users/user.html", context)


def reach(roles: list[EtcdRole]) -> list[tuple[str, tuple[object, ...]]]:
    """All that these roles allow together, right by right, in as few ranges as can be."""
    every = [one for role in roles for one in role.permissions]
    return [(right, union(p.span for p in every if right in p.rights)) for right in RIGHTS]


def _grantable(request: HttpRequest, user: EtcdUser) -> list[str]:
    try:
        names = auth.role_names(request.gateway)
    except Denied:
        return []
    return [name for name in dict.fromkeys([*names, ROOT]) if name not in user.roles]


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def new_user(request: HttpRequest) -> HttpResponse:
    how = request.POST.get("with", "password")

    def plan(name: str, errors: dict[str, str]) -> tuple[str, Callable[[], None]]:
        has_password = how != "nothing"
        password = new_password(request, errors) if has_password else None
        command = commands.add_user(ctl(request), name, has_password=has_password)
        return command, lambda: auth.add_user(request.gateway, name, password)

    return by_name.create(request, USER, plan, {"with": how})


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def delete_user(request: HttpRequest) -> HttpResponse:
    name = name_of(request)
    found = auth.user(request.gateway, name)
    return by_name.delete(
        request,
        USER,
        name,
        command=commands.user(ctl(request), "delete", name),
        detail=f"held {', '.join(found.roles) or 'no role'}",
        carry_out=lambda: auth.delete_user(request.gateway, name),
        more={"etcd_user": found},
    )


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def user_password(request: HttpRequest) -> HttpResponse:
    name = name_of(request)
    found = auth.user(request.gateway, name)
    command = commands.user(ctl(request), "passwd", name)
    is_own = name == request.cluster.user_name
    errors: dict[str, str] = {}
    if request.method == "POST":
        password = new_password(request, errors)
        if not is_confirmed(request):
            errors["confirm"] = WRONG_NAME
        if not errors:
            with recorded(request, "set etcd password", name, command=command) as row:
                auth.change_password(request.gateway, name, password)
                row.outcome = Outcome.DONE
            if is_own and "keep" in request.POST:
                _keep(request, password)
            messages.success(request, f"Set the password of {show(name.encode())}.")
            return redirect(USER.page(request, name))
    context = frame(request, "users", "Set password", show(name.encode()), "Password") | {
        "etcd_user": found,
        "is_own": is_own,
        "errors": errors,
        "confirm_error": errors.get("confirm", ""),
        "command": command,
        "back": USER.page(request, name),
    }
    return render(request, "users/password.html", context, status=422 if errors else 200)


def _keep(request: HttpRequest, password: str) -> None:
    """The connection's or the person's own user has a new password: without it the console would
    be shut out."""
    cluster: Cluster = request.cluster
    if cluster.asks_sign_in:
        clients.forget(cluster)
        remember(request.session, cluster, OwnSignIn(cluster.user_name, password))
        return
    cluster.etcd_password_encrypted = encrypt(password)
    cluster.save(update_fields=["etcd_password_encrypted", "changed_at"])
    note(request, "change connection", cluster.name, detail="password of its user", cluster=cluster)


@allow(Role.ADMIN, "GET", "POST", writes=True)
@named
def user_role(request: HttpRequest) -> HttpResponse:
    """Grant or revoke one role of one user: what it does is the other of what is."""
    name, role = name_of(request, "user"), name_of(request, "role")
    found = auth.user(request.gateway, name)
    verb = "revoke" if role in found.roles else "grant"
    command = commands.user(ctl(request), f"{verb}-role", name, role)
    if request.method == "POST" and request.POST.get("do") == verb:
        return _grant_or_revoke(request, verb, found, role, command)
    [etcd_role] = auth.roles(request.gateway, [role]) or [EtcdRole(role)]
    few = etcd_role.permissions[:RANGES_COUNTED]
    shown = show(name.encode())
    context = frame(request, "users", f"{verb.capitalize()} role", shown, "Role") | {
        "verb": verb,
        "etcd_user": found,
        "etcd_role": etcd_role,
        "counted": [(one, count_of(request, one.span)) for one in few],
        "left_out": len(etcd_role.permissions) - len(few),
        "is_dialog": is_dialog(request),
        "has_changed": request.method == "POST",
        "back": request.GET.get("back", ""),
        "command": command,
    }
    template = "users/_user_role.html" if is_dialog(request) else "users/user_role.html"
    return render(request, template, context, status=409 if request.method == "POST" else 200)


def _grant_or_revoke(
    request: HttpRequest, verb: str, user: EtcdUser, role: str, command: str
) -> HttpResponse:
    change = auth.grant_role if verb == "grant" else auth.revoke_role
    to = "to" if verb == "grant" else "from"
    target = f"{role} {to} {user.name}"
    with recorded(request, f"{verb} etcd role", target, command=command) as row:
        change(request.gateway, user.name, role)
        row.outcome = Outcome.DONE
    done = "Granted" if verb == "grant" else "Revoked"
    shown = f"{show(role.encode())} {to} {show(user.name.encode())}"
    messages.success(request, f"{done} role {shown}.")
    if request.POST.get("back") == "matrix":
        return redirect("users", request.cluster.slug)
    return redirect(USER.page(request, user.name))
