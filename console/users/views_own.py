"""Without role root: one's own user and roles, and who can touch a key as far as one may know."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.gateway import Denied
from console.keys.addresses import key_of
from console.keys.views_key import key_frame
from console.roles import Role
from console.users import commands
from console.users.forms import ctl, frame, named
from console.users.own import own_access as access_of
from console.users.rules import readable, touch
from console.users.spans import span_of
from console.users.views_tester import touching
from console.users.views_users import reach


@allow(Role.VIEWER)
@named
def own_access(request: HttpRequest) -> HttpResponse:
    found = access_of(request.gateway)
    line = commands.user(ctl(request), "get", found.name or "USER", flags=("--detail",))
    context = frame(request, "own_access", "My access") | {
        "access": found,
        "reach": reach(list(found.roles)),
        "roots": readable(found.roles),
        "command": line,
    }
    return render(request, "users/own.html", context)


@allow(Role.VIEWER)
@named
def key_access(request: HttpRequest) -> HttpResponse:
    """Who can touch this key: oneself always, everybody for operators whom etcd lets ask."""
    key = key_of(request)
    span = span_of(key, b"")
    found = access_of(request.gateway)
    context = frame(request, "own_access", "Access") | key_frame(key)
    context |= {
        "tab": "access",
        "access": found,
        "mine": touch(found.name, found.roles, span),
        "span": span,
        "is_enabled": found.is_enabled,
        "command": ctl(request).line("user", "list"),
    }
    if request.role >= Role.OPERATOR:
        try:
            context |= touching(request, span)
        except Denied as error:
            context["denied"] = error
    return render(request, "users/key_access.html", context)
