"""Compaction with a preview: level 3, a plan page that says what is freed and what is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console.access import allow
from console.audit.record import Outcome, etcdctl_for, recorded
from console.errors import cluster_error
from console.gateway import ClusterError, History, upkeep
from console.history.versions import window
from console.keys.addresses import query_url
from console.keys.paging import prefix_range
from console.maintenance.past import revisions_before
from console.maintenance.plan import proposed_revision
from console.maintenance.prefixes import largest
from console.maintenance.reclaim import Freed, Reclaim, suggestions
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.maintenance.views import frame
from console.overview.sampler import sampler
from console.roles import Role

EVERYTHING = prefix_range(b"")
PREVIEW_SECONDS = 3.0
LONG_PREVIEW_SECONDS = 30.0
GROUPS_SHOWN = 12
LOST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Preview:
    """What the replay of the window up to the revision says."""

    reclaim: Reclaim
    covered: History

    @property
    def share_percent(self) -> int:
        """How much of the window up to the revision was read."""
        span = self.covered.until - self.covered.first + 1
        return 100 * max(0, self.covered.read_to - self.covered.first + 1) // max(1, span)

    @property
    def groups(self) -> list[tuple[bytes, Freed]]:
        return largest(self.reclaim.groups, lambda freed: freed.size_bytes, GROUPS_SHOWN)

    @property
    def groups_left_out(self) -> int:
        return max(0, len(self.reclaim.groups) - GROUPS_SHOWN)

    @property
    def lost(self) -> list[Any]:
        return self.reclaim.lost(LOST_SHOWN)


@allow(Role.OPERATOR, "GET", "POST", writes=True)
def compact(request: HttpRequest) -> HttpResponse:
    """`revision` (proposed when it is missing), `physical`, `look=long` for a longer preview."""
    asked = request.POST if request.method == "POST" else request.GET
    try:
        sampler.check_leader(request.cluster)
        newest = request.gateway.newest_revision(EVERYTHING)
        compacted = request.gateway.compacted(EVERYTHING, newest)
    except ClusterError as error:
        return cluster_error(request, error, "Reading the retained revisions", **frame("Compact"))
    text = asked.get("revision", "")
    errors: dict[str, str] = {}
    revision = _revision(text, newest, compacted, errors)
    is_physical = "physical" in asked
    if request.method == "POST":
        if not is_confirmed(request):
            errors["confirm"] = WRONG_NAME
        if asked.get("step") == "start" and not errors and text:
            return _compact(request, revision, compacted, is_physical)
        errors.setdefault("step", "Nothing was compacted.")
    return _plan(request, newest, compacted, revision, text, is_physical, errors)


def _revision(text: str, newest: int, compacted: int, errors: dict[str, str]) -> int:
    """0 where there is nothing that could be compacted."""
    if not text:
        return proposed_revision(newest, compacted) if newest > max(compacted, 1) else 0
    is_number = text.isascii() and text.isdigit() and len(text) < 19
    if is_number and compacted < int(text) <= newest:
        return int(text)
    is_none_left = newest <= compacted
    errors["revision"] = (
        "Everything up to the newest revision is compacted already."
        if is_none_left
        else f"A revision from {compacted + 1} to {newest}."
    )
    return 0


def _plan(
    request: HttpRequest,
    newest: int,
    compacted: int,
    revision: int,
    text: str,
    is_physical: bool,
    errors: dict[str, str],
) -> HttpResponse:
    preview = None
    if revision:
        try:
            preview = _preview(request, compacted, revision)
        except ClusterError as error:
            tried = f"Reading the history up to revision {revision}"
            return cluster_error(request, error, tried, **frame("Compact"))
    context = frame("Compact") | {
        "newest": newest,
        "compacted": compacted,
        "window": window(compacted, newest, (revision,) if revision else ()),
        "revision": revision,
        "revision_text": text or revision or "",
        "history_lost": revision - compacted,
        "kept": newest - revision,
        "is_physical": is_physical,
        "preview": preview,
        "suggestions": [
            (one, _here(request, one.revision, is_physical))
            for one in suggestions(newest, compacted, revisions_before(request.cluster))
        ],
        "longer_url": _here(request, revision, is_physical, look="long"),
        "is_long": request.GET.get("look") == "long",
        "errors": errors,
        "confirm_error": errors.get("confirm", ""),
        "command": _command(request, revision, is_physical) if revision else "",
    }
    return render(request, "maintenance/compact.html", context, status=422 if errors else 200)


def _preview(request: HttpRequest, compacted: int, revision: int) -> Preview:
    seconds = LONG_PREVIEW_SECONDS if request.GET.get("look") == "long" else PREVIEW_SECONDS
    scan = request.gateway.scan(EVERYTHING, start=compacted + 1, until=revision, seconds=seconds)
    reclaim = Reclaim()
    reclaim.feed(scan)
    return Preview(reclaim, scan.covered())


def _here(request: HttpRequest, revision: int, is_physical: bool, **more: str) -> str:
    flags = {"physical": "on"} if is_physical else {}
    path = reverse("compact", args=[request.cluster.slug])
    return query_url(path, revision=revision, **flags, **more)


def _command(request: HttpRequest, revision: int, is_physical: bool) -> str:
    words = ["compaction", *(["--physical"] if is_physical else []), str(revision)]
    return etcdctl_for(request.cluster).line(*words)


def _compact(
    request: HttpRequest, revision: int, compacted: int, is_physical: bool
) -> HttpResponse:
    command = _command(request, revision, is_physical)
    target = f"revision {revision}"
    try:
        with recorded(
            request, "compact", target, command=command, revision_before=compacted or None
        ) as row:
            upkeep.compact(request.gateway, revision, is_physical=is_physical)
            row.outcome, row.revision_after = Outcome.DONE, revision
    except ClusterError as error:
        return cluster_error(request, error, f"Compacting at {revision}", **frame("Compact"))
    messages.success(
        request,
        f"Compacted at revision {revision}. Files shrink when members are defragmented.",
    )
    return redirect("maintenance", request.cluster.slug)
