"""Overview: the health sentence, the figures, the member table."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import etcdctl_for
from console.overview.present import live_context
from console.overview.sampler import sampler
from console.roles import Role

CARDS = ("Revision", "Leader", "Largest database", "Survives", "Alarms")
PATIENCE_SECONDS = 0.8
"""So long a page waits for the members. Then it shows its shape, and they follow."""


@allow(Role.VIEWER)
def overview(request: HttpRequest) -> HttpResponse:
    cluster = request.cluster
    snapshot = sampler.within(cluster, PATIENCE_SECONDS)
    context = {"is_pending": True, "skeleton_cards": CARDS}
    if snapshot:
        context = live_context(cluster, snapshot)
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
    context = live_context(request.cluster, sampler.snapshot(request.cluster))
    return render(request, "overview/_live.html", context)
