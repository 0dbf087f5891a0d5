"""Overview: the health sentence, the figures, the member table."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import etcdctl_for
from console.overview.present import live_context
from console.overview.sampler import sampler
from console.roles import Role


@allow(Role.VIEWER)
def overview(request: HttpRequest) -> HttpResponse:
    cluster = request.cluster
    context = live_context(sampler.snapshot(cluster))
    command = etcdctl_for(cluster).line("endpoint", "status", "--cluster", "-w", "table")
    return render(
        request,
        "overview/page.html",
        context
        | {
            "title": "Overview",
            "rail_current": "overview",
            "crumbs": [("Cluster", None), ("Overview", None)],
            "command": command,
        },
    )


@allow(Role.VIEWER)
def live(request: HttpRequest) -> HttpResponse:
    """The live region alone: what the page polls when it has no websocket."""
    return render(request, "overview/_live.html", live_context(sampler.snapshot(request.cluster)))
