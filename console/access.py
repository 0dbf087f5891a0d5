"""Who may open which page: one declared rule a view, checked on the server each time.

`@allow(...)` puts the rule on the view and enforces it; `AccessMiddleware` refuses a view that
has none, and tests/console/test_access_table.py builds its table from the URLconf. A view of a
cluster gets `request.cluster`, `request.role` and `request.gateway`: a `Reader`, or a `Writer`
when the rule says the view writes, the request is no GET and the connection is not read-only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from console.clusters.own import recall
from console.gateway import Reader, Writer
from console.models import Account, Cluster
from console.roles import Role


class Who(Enum):
    """Rules that are not about a cluster."""

    ANYONE = "anyone"
    SIGNED_IN = "signed in"
    CONSOLE_ADMIN = "console admin"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may open a view. `writes`: its POST changes the cluster, which read-only forbids."""

    who: Who | Role
    methods: tuple[str, ...] = ("GET", "HEAD")
    writes: bool = False
    before_password_change: bool = False
    before_etcd_sign_in: bool = False


class ReadOnly(PermissionDenied):
    """A write to a connection marked read-only."""


View = Callable[..., HttpResponse]


def allow(
    who: Who | Role,
    *methods: str,
    writes: bool = False,
    before_password_change: bool = False,
    before_etcd_sign_in: bool = False,
) -> Callable[[View], View]:
    """Declare and enforce a view's rule. Without methods it answers GET only."""
    verbs = tuple(dict.fromkeys(v for m in methods or ("GET",) for v in _with_head(m)))
    rule = Rule(who, verbs, writes, before_password_change, before_etcd_sign_in)

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method not in rule.methods:
                response = HttpResponse(status=405)
                response["Allow"] = ", ".join(rule.methods)
                return response
            refusal = admit(request, rule, kwargs)
            return refusal or view(request, *args, **kwargs)

        guarded.access_rule = rule  # type: ignore[attr-defined]
        return guarded

    return decorate


def _with_head(method: str) -> tuple[str, ...]:
    return ("GET", "HEAD") if method == "GET" else (method,)


def admit(request: HttpRequest, rule: Rule, kwargs: dict[str, Any]) -> HttpResponse | None:
    """None when the request may go on, with what it needs on it; else the response instead."""
    if rule.who is Who.ANYONE:
        return None
    account = request.user
    if not account.is_authenticated:
        if request.headers.get("HX-Request"):
            # A fragment swapped for a login page would be a page within a page.
            return HttpResponse(status=401, headers={"HX-Refresh": "true"})
        return redirect_to_login(request.get_full_path())
    if account.must_change_password and not rule.before_password_change:
        return redirect("password")
    if rule.who is Who.CONSOLE_ADMIN and not account.is_admin:
        raise PermissionDenied("This page is for admins of the console.")
    if isinstance(rule.who, Role):
        return enter_cluster(request, account, rule, kwargs.pop("cluster"))
    return None


def enter_cluster(
    request: HttpRequest, account: Account, rule: Rule, slug: str
) -> HttpResponse | None:
    """Find the cluster and check the role on it. One that may not be seen is not there."""
    assert isinstance(rule.who, Role)
    cluster = Cluster.objects.filter(slug=slug).first()
    role = account.role_on(cluster) if cluster else None
    if cluster is None or role is None:
        raise Http404("There is no such cluster, or you have no role on it.")
    request.cluster, request.role = cluster, role  # type: ignore[attr-defined]
    request.gateway = Reader(cluster)  # type: ignore[attr-defined]
    if request.session.get("cluster") != slug:
        request.session["cluster"] = slug
    if role < rule.who:
        raise PermissionDenied(
            f"This needs the role {rule.who.label} on {cluster.name}; yours is {role.label}."
        )
    if rule.writes and request.method not in {"GET", "HEAD"}:
        if cluster.is_read_only:
            raise ReadOnly(f"The connection {cluster.name} is read-only.")
        request.gateway = Writer(cluster)  # type: ignore[attr-defined]
    if cluster.asks_sign_in:
        cluster.own = recall(request.session, cluster)
        if cluster.own is None and not rule.before_etcd_sign_in:
            return to_etcd_sign_in(request, slug)
    return None


def to_etcd_sign_in(request: HttpRequest, slug: str) -> HttpResponse:
    """The connection asks people for their own etcd credentials, and these are not known yet."""
    after = request.get_full_path() if request.method in {"GET", "HEAD"} else ""
    address = reverse("etcd_sign_in", args=[slug])
    if request.headers.get("HX-Request"):
        return HttpResponse(status=401, headers={"HX-Redirect": address})
    return redirect(f"{address}?{urlencode({'next': after})}" if after else address)
