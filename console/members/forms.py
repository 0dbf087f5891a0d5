"""What the members' pages read from a request, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from console.audit.record import etcdctl_for
from console.equivalent import Command
from console.errors import plain
from console.overview.health import Health, Member, Row
from console.overview.sampler import sampler

NAME_CHARACTERS_MAX = 200
URLS_CHARACTERS_MAX = 4000
REASON_CHARACTERS_MAX = 500


def frame(title: str) -> dict[str, Any]:
    crumbs = [("Cluster", None), ("Members", "members")]
    if title != "Members":
        crumbs.append((title, None))
    return {"title": title, "rail_current": "members", "crumbs": crumbs}


def health_of(request: HttpRequest) -> Health:
    return sampler.snapshot(request.cluster).health  # type: ignore[attr-defined]


def members_of(health: Health) -> list[Member]:
    return [row.member for row in health.rows]


def row_of(request: HttpRequest, health: Health) -> Row | None:
    """The member that the request names by its hexadecimal id."""
    wanted = value(request, "member")
    return next((row for row in health.rows if wanted and row.member.hex_id == wanted), None)


def about_a_member(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A view of one member gets the cluster's health and the member's row, or is not called."""

    @wraps(view)
    def found(request: HttpRequest) -> HttpResponse:
        health = health_of(request)
        row = row_of(request, health)
        return no_such_member(request) if row is None else view(request, health, row)

    return found


def no_such_member(request: HttpRequest) -> HttpResponse:
    text = "The address names no member of this cluster. It may have been removed."
    return plain(request, "No such member", text, 404)


def value(request: HttpRequest, name: str, characters_max: int = NAME_CHARACTERS_MAX) -> str:
    return (request.POST.get(name) or request.GET.get(name, "")).strip()[:characters_max]


def urls_in(request: HttpRequest) -> list[str]:
    """Addresses, one a line or separated by commas, in the order given."""
    text = value(request, "peer_urls", URLS_CHARACTERS_MAX)
    return list(dict.fromkeys(text.replace(",", " ").split()))


def next_in(request: HttpRequest) -> str:
    """Where to go afterwards, if it is a page of this console."""
    wanted = value(request, "next", URLS_CHARACTERS_MAX)
    is_ours = url_has_allowed_host_and_scheme(wanted, None) and wanted.startswith("/c/")
    return wanted if is_ours else ""


def back(request: HttpRequest) -> str:
    return next_in(request) or reverse("members", args=[request.cluster.slug])  # type: ignore[attr-defined]


def command(request: HttpRequest, *words: str) -> Command:
    return etcdctl_for(request.cluster).line("member", *words)  # type: ignore[attr-defined]
