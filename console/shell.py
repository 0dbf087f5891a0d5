"""What every page's frame needs: rail, cluster switcher, theme. Only what exists is listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from console.help import help_of
from console.models import Account, Cluster
from console.roles import Role

THEMES = ("system", "light", "dark")
THEME_COOKIE = "keydeck_theme"


CLUSTER_PAGES = (
    (
        "Data",
        (
            ("keys", "Keys", "k"),
            ("history", "History", "h"),
            ("watch", "Watch", "w"),
            ("leases", "Leases", "l"),
        ),
    ),
    (
        "Access",
        (
            ("users", "Users", "s"),
            ("roles", "Roles", "r"),
            ("permissions", "Permissions", "p"),
            ("own_access", "My access", "y"),
        ),
    ),
    (
        "Cluster",
        (
            ("overview", "Overview", "o"),
            ("members", "Members", "e"),
            ("maintenance", "Maintenance", "m"),
        ),
    ),
)
"""Groups of the rail: route, words, the letter behind `g`."""

NEEDS = {
    "maintenance": Role.OPERATOR,
    "users": Role.OPERATOR,
    "roles": Role.OPERATOR,
    "permissions": Role.OPERATOR,
}
"""Entries that only some see; the others are for every viewer."""


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    label: str
    url: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    label: str
    entries: tuple[Entry, ...]


def context(request: HttpRequest) -> dict[str, Any]:
    """Template context processor."""
    theme = request.COOKIES.get(THEME_COOKIE, "system")
    match = request.resolver_match
    frame: dict[str, Any] = {
        "theme": theme if theme in THEMES else "system",
        "help": help_of(match.url_name or "", match.func.__module__) if match else (),
    }
    account = getattr(request, "user", None)
    if not isinstance(account, Account):
        return frame
    clusters = visible_clusters(account)
    cluster = getattr(request, "cluster", None) or remembered(request, clusters)
    role = getattr(request, "role", None) or (account.role_on(cluster) if cluster else None)
    return frame | {
        "clusters": clusters,
        "cluster": cluster,
        "role": role,
        **editing(cluster, role),
        "is_admin": account.is_admin,
        "rail": rail(account, cluster, role),
        "cluster_crumbs": [name for _, some in CLUSTER_PAGES for name, _, _ in some],
    }


def editing(cluster: Cluster | None, role: Role | None) -> dict[str, Any]:
    """Whether keys may be changed here, or why not. A page about a range that the connection's
    own user may not write says so instead (users/own.py)."""
    why = ""
    if cluster is None or role is None or role < Role.EDITOR:
        why = "This needs the role editor"
    if cluster is not None and cluster.is_read_only:
        why = "The connection is read-only"
    return {"may_edit": not why, "why_not_edit": why}


def visible_clusters(account: Account) -> list[Cluster]:
    if account.is_admin:
        return list(Cluster.objects.all())
    return list(Cluster.objects.filter(grants__account=account))


def remembered(request: HttpRequest, clusters: list[Cluster]) -> Cluster | None:
    """On pages that are about no cluster: the one looked at last."""
    slug = request.session.get("cluster")
    return next((c for c in clusters if c.slug == slug), clusters[0] if clusters else None)


def rail(account: Account, cluster: Cluster | None, role: Role | None) -> list[Group]:
    groups = []
    if cluster:
        groups += [
            Group(
                label,
                tuple(
                    Entry(n, t, reverse(n, args=[cluster.slug]), k)
                    for n, t, k in some
                    if role is not None and role >= NEEDS.get(n, Role.VIEWER)
                ),
            )
            for label, some in CLUSTER_PAGES
        ]
    if account.is_admin:
        groups.append(
            Group(
                "Console",
                (
                    Entry("audit", "Audit", reverse("audit"), "a"),
                    Entry("clusters", "Clusters", reverse("clusters"), "c"),
                    Entry("accounts", "Accounts", reverse("accounts"), "u"),
                ),
            )
        )
    return groups
