"""Members: the list with what may be done to each, and how one that was added is started."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from console.access import allow
from console.keys.addresses import query_url
from console.members import forms
from console.members.plan import quorum_of, start_flags
from console.members.replace import follow
from console.overview.health import Health, Member, Row
from console.overview.present import health_now
from console.roles import Role

PROGRAMS = (("Keydeck", "python -m kvserver"), ("etcd", "etcd"))


@allow(Role.VIEWER)
def members(request: HttpRequest) -> HttpResponse:
    context = forms.frame("Members") | live_context(request)
    context["command"] = forms.command(request, "list", "-w", "table")
    return render(request, "members/page.html", context)


@allow(Role.VIEWER)
def members_live(request: HttpRequest) -> HttpResponse:
    """The live region alone, for the poll."""
    return render(request, "members/_live.html", live_context(request))


def live_context(request: HttpRequest) -> dict[str, Any]:
    health, rows = health_now(request.cluster)
    may_act = request.role >= Role.OPERATOR and not request.cluster.is_read_only
    return {
        "health": health,
        "rows": rows,
        "quorum": quorum_of(health.rows),
        "may_act": may_act,
        "why_not": "The connection is read-only"
        if request.cluster.is_read_only
        else "This needs the role operator",
    }


@allow(Role.VIEWER)
@forms.about_a_member
def start_member(request: HttpRequest, health: Health, row: Row) -> HttpResponse:
    """How to start a member that was added: its flags, ready to copy."""
    name = forms.value(request, "name") or row.member.name
    context = forms.frame(f"Start {name or row.member.hex_id}") | {
        "row": row,
        "member": row.member,
        "name": name,
        "next": forms.next_in(request),
        **started_by(health, row.member, name),
    }
    return render(request, "members/start.html", context)


def started_by(health: Health, member: Member, name: str) -> dict[str, Any]:
    flags = start_flags(name or "NAME", member.peer_urls, forms.members_of(health), member)
    lines = [f"--{flag}={value}" for flag, value in flags.items()]
    return {
        "flags": flags,
        "start_lines": [
            (label, " \\\n  ".join([program, f"--data-dir={name or 'NAME'}.data", *lines]))
            for label, program in PROGRAMS
        ],
    }


@allow(Role.OPERATOR)
def replace_member(request: HttpRequest) -> HttpResponse:
    """The assistant: which member goes, what takes its place, and how far it is."""
    return render(request, "members/replace.html", _replacement(request))


@allow(Role.OPERATOR)
def replace_live(request: HttpRequest) -> HttpResponse:
    return render(request, "members/_replace.html", _replacement(request))


def _replacement(request: HttpRequest) -> dict[str, Any]:
    health = forms.health_of(request)
    old, name, urls = (
        forms.value(request, "member"),
        forms.value(request, "name"),
        forms.urls_in(request),
    )
    label = forms.value(request, "label")
    try:
        old_id = int(old, 16)
    except ValueError:
        old_id = 0
    found = follow(health, old_id, name, urls)
    if found.old:
        label = found.old.member.label
    slug = request.cluster.slug
    asked = {"member": old, "label": label, "name": name, "peer_urls": "\n".join(urls)}
    own = query_url(reverse("replace_member", args=[slug]), **asked)
    return forms.frame("Replace a member") | {
        "health": health,
        "rows": health.rows,
        "old": old,
        "label": label,
        "name": name,
        "peer_urls": "\n".join(urls),
        "is_named": bool(old_id and name and urls),
        "found": found,
        "live_url": query_url(reverse("replace_live", args=[slug]), **asked),
        "links": {
            "remove": query_url(reverse("remove_member", args=[slug]), member=old, next=own),
            "add": query_url(
                reverse("add_member", args=[slug]),
                name=name,
                peer_urls="\n".join(urls),
                next=own,
            ),
            "promote": query_url(
                reverse("promote_member", args=[slug]),
                member=found.new.member.hex_id if found.new else "",
                next=own,
            ),
        },
        **(started_by(health, found.new.member, name) if found.new else {}),
        "may_act": not request.cluster.is_read_only,
    }
