"""Where one can go: pages, clusters, a revision or a lease by its number. No request, no cluster
is asked here: what is found at once is shown at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.urls import reverse

from console.keys.addresses import INT64_MAX
from console.models import Account, Cluster
from console.roles import Role
from console.shell import rail

REVISION = re.compile(r"(?:r|rev|revision)?\s*(\d{1,19})")
LEASE = re.compile(r"(?:(lease)\s+)?(?:0x)?([0-9a-f]{1,16})", re.IGNORECASE)
LEASE_DIGITS_MIN = 8
"""Without the word "lease" shorter ones are taken for words: ids are long."""


@dataclass(frozen=True, slots=True)
class Place:
    """`note`: what the label does not say. `icon`: a name in icons.py."""

    label: str
    url: str
    icon: str
    note: str = ""
    is_mono: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    label: str
    places: tuple[Place, ...]


def groups(
    account: Account, clusters: Iterable[Cluster], cluster: Cluster | None, query: str
) -> list[Group]:
    """Those that match every word of `query`, by what can be reached from where."""
    words = query.lower().split()
    role = account.role_on(cluster) if cluster else None
    found = [
        Group("Go to", _numbered(cluster, query.strip()) if cluster else ()),
        Group("Pages", _matching(_pages(account, cluster, role), words)),
        Group("Clusters", _matching(_clusters(clusters, cluster), words)),
    ]
    return [group for group in found if group.places]


def _matching(places: Iterable[Place], words: list[str]) -> tuple[Place, ...]:
    return tuple(
        place
        for place in places
        if all(word in f"{place.label} {place.note}".lower() for word in words)
    )


def _pages(account: Account, cluster: Cluster | None, role: Role | None) -> list[Place]:
    places = [
        Place(entry.label, entry.url, entry.name, group.label)
        for group in rail(account, cluster, role)
        for entry in group.entries
    ]
    if cluster and role and role >= Role.EDITOR and not cluster.is_read_only:
        slug = [cluster.slug]
        places.append(Place("New key", reverse("new_key", args=slug), "plus", "Data"))
        places.append(Place("Grant lease", reverse("grant_lease", args=slug), "plus", "Data"))
    if account.is_admin:
        places.append(Place("New connection", reverse("new_cluster"), "plus", "Console"))
        places.append(Place("New account", reverse("new_account"), "plus", "Console"))
    places.append(Place("Change password", reverse("password"), "lock", "Console"))
    return places


def _clusters(clusters: Iterable[Cluster], current: Cluster | None) -> list[Place]:
    return [
        Place(
            each.name,
            reverse("overview", args=[each.slug]),
            "clusters",
            f"switch cluster · {each.get_environment_display()}",
        )
        for each in clusters
        if current is None or each.pk != current.pk
    ]


def _numbered(cluster: Cluster, query: str) -> tuple[Place, ...]:
    places = []
    revision = REVISION.fullmatch(query.lower())
    if revision and 0 < int(revision[1]) <= INT64_MAX:
        url = reverse("revision", args=[cluster.slug, int(revision[1])])
        places.append(Place(f"Revision {int(revision[1])}", url, "history", "what it changed"))
    lease = LEASE.fullmatch(query)
    if lease and (lease[1] or len(lease[2]) >= LEASE_DIGITS_MIN) and int(lease[2], 16):
        url = reverse("lease", args=[cluster.slug, f"{int(lease[2], 16):x}"])
        places.append(Place(f"Lease {int(lease[2], 16):x}", url, "leases", "and its keys"))
    return tuple(places)
