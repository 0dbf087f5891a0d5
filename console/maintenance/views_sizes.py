"""Why is my database big: the newest size scan by prefix, with what to do about it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console.access import allow
from console.audit.record import etcdctl_for, note
from console.errors import plain
from console.keys.addresses import list_url, query_url
from console.maintenance import jobs, work
from console.maintenance.past import sizes_in_use
from console.maintenance.plan import Sizes
from console.maintenance.prefixes import DEPTH_MAX, largest
from console.maintenance.sizes import (
    FileSizes,
    Forecast,
    Weight,
    bar,
    findings,
    forecast,
    total,
)
from console.maintenance.sizes_job import stages, weights_of
from console.maintenance.views import frame
from console.models import Job
from console.roles import Role

DEPTH = 2
GROUPS_SHOWN = 40
SORTS = {
    "all": ("Everything", lambda weight: weight.all_bytes),
    "live": ("Live", lambda weight: weight.live_bytes),
    "history": ("History", lambda weight: weight.old_bytes),
    "writes": ("Writes", lambda weight: weight.writes),
    "keys": ("Keys", lambda weight: weight.live_keys),
}


@allow(Role.OPERATOR, "GET", "POST")
def sizes(request: HttpRequest) -> HttpResponse:
    """`depth` of the prefixes, `sort`. POST begins a scan; it only reads, so a read-only
    connection allows it."""
    if request.method == "POST":
        return _start(request)
    scans = Job.objects.filter(cluster=request.cluster, kind=Job.Kind.SIZES)
    running = scans.filter(state=Job.State.RUNNING).first()
    shown = scans.filter(sizes__isnull=False).exclude(state=Job.State.RUNNING).first()
    context = frame("Why is my database big") | {
        "running": running if running and not jobs.is_silent(running) else None,
        "scan": shown,
        "command": etcdctl_for(request.cluster).line("endpoint", "status", "--cluster"),
    }
    if shown:
        context |= _report(request, shown)
    return render(request, "maintenance/sizes.html", context)


def _start(request: HttpRequest) -> HttpResponse:
    try:
        job = jobs.create(request, Job.Kind.SIZES, stages())
    except jobs.Busy:
        text = "One scan a cluster at a time. Look at it on the maintenance page."
        return plain(request, "A scan runs already", text, 409)
    note(request, "scan sizes", f"job {job.pk}", cluster=request.cluster)
    work.launch(job)
    return redirect("job", request.cluster.slug, job.pk)


def _report(request: HttpRequest, scan: Job) -> dict[str, Any]:
    depth = _depth(request, scan.result.get("depth", DEPTH_MAX))
    sort = request.GET.get("sort", "all")
    sort = sort if sort in SORTS else "all"
    groups = weights_of(scan, depth)
    ranked = largest(groups, SORTS[sort][1], len(groups))
    whole = total(groups.values())
    most = max((weight.all_bytes for weight in groups.values()), default=0)
    files = [
        FileSizes(one["label"], Sizes(one["size"], one["in_use"]), one["quota"])
        for one in scan.result.get("members", ())
    ]
    largest_file = max((file.sizes.size_bytes for file in files), default=0)
    read_to, newest = scan.result.get("read_to", 0), scan.result.get("newest", 0)
    compacted = scan.result.get("compacted", 0)
    heaviest = largest(groups, lambda weight: weight.all_bytes, len(groups))
    return {
        "groups": [
            (prefix, weight, bar(_parts(weight), most)) for prefix, weight in ranked[:GROUPS_SHOWN]
        ],
        "left_out": max(0, len(ranked) - GROUPS_SHOWN),
        "whole": whole,
        "files": [(file, bar(_file_parts(file, whole), largest_file)) for file in files],
        "findings": [
            (one, _action(request, one.action, one.prefix))
            for one in findings(files, heaviest, max(0, newest - compacted))
        ],
        "depth": depth,
        "depths": [(d, _here(request, d, sort)) for d in range(scan.result.get("depth", 1) + 1)],
        "sort": sort,
        "sorts": [(name, words, _here(request, depth, name)) for name, (words, _) in SORTS.items()],
        "is_part": scan.state != Job.State.DONE or read_to < newest,
        "window": max(0, read_to - compacted),
        "leases": scan.result.get("leases"),
        "forecast": _forecast(request, files),
    }


def _forecast(request: HttpRequest, files: list[FileSizes]) -> Forecast | None:
    """From the console's own samples, and where these are too young from the sizes that earlier
    scans met. The smallest quota is the one that is reached."""
    scans = Job.objects.filter(cluster=request.cluster, kind=Job.Kind.SIZES).order_by("id")
    met = [
        (job.started_at, max(one["in_use"] for one in job.result["members"]))
        for job in scans
        if job.result.get("members")
    ]
    quotas = [file.quota_bytes for file in files if file.quota_bytes > 0]
    quota = min(quotas, default=0)
    return forecast(sizes_in_use(request.cluster), quota) or forecast(met, quota)


def _depth(request: HttpRequest, deepest: int) -> int:
    text = request.GET.get("depth", "")
    wanted = int(text) if text.isascii() and text.isdigit() and len(text) < 3 else DEPTH
    return min(wanted, deepest)


def _here(request: HttpRequest, depth: int, sort: str) -> str:
    path = reverse("sizes", args=[request.cluster.slug])
    return query_url(path, depth=depth, sort=sort)


def _parts(weight: Weight) -> list[tuple[str, int]]:
    return [("live", weight.live_bytes), ("history", weight.old_bytes)]


def _file_parts(file: FileSizes, whole: Weight) -> list[tuple[str, int]]:
    """Live, history, the rest in use, free: a file's pages as far as the scan explains them."""
    used = file.sizes.in_use_bytes
    live = min(whole.live_bytes, used)
    history = min(whole.old_bytes, used - live)
    return [
        ("live", live),
        ("history", history),
        ("other", used - live - history),
        ("free", file.sizes.free_bytes),
    ]


def _action(request: HttpRequest, action: str, prefix: bytes) -> tuple[str, str]:
    """Words and an address, or nothing to be done here."""
    slug = request.cluster.slug
    if action == "compact":
        return "Plan a compaction", reverse("compact", args=[slug])
    if action == "defragment_all":
        return "Plan a defragmentation", reverse("defragment_all", args=[slug])
    if action == "keys":
        return "Look at the keys", list_url(request.cluster, prefix)
    return "", ""
