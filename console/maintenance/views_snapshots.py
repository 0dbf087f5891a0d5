"""Snapshots: saved on a schedule or at once, streamed to the browser, listed with their state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.timezone import now

from console.access import allow
from console.audit.record import Outcome, begun, etcdctl_for, note
from console.errors import cluster_error, plain
from console.gateway import ClusterError
from console.gateway.snapshots import SnapshotStream
from console.maintenance import jobs, snapshot_job, uploads
from console.maintenance.archive import read_file
from console.maintenance.streaming import FileDownload
from console.maintenance.views import frame
from console.models import Job, Snapshot, SnapshotSchedule
from console.overview.sampler import sampler
from console.roles import Role

SHOWN = 50
LEVELS = {"verified": "ok", "failed": "danger", "writing": "info", "removed": ""}
UNITS = {"minutes": 1, "hours": 60, "days": 24 * 60}
EVERY_MINUTES_MAX = 366 * 24 * 60
COUNT_MAX = 10_000


@allow(Role.OPERATOR)
def snapshots(request: HttpRequest) -> HttpResponse:
    return _page(request, _fields(_schedule(request)), {})


def _page(request: HttpRequest, fields: dict[str, Any], errors: dict[str, str]) -> HttpResponse:
    health = sampler.snapshot(request.cluster).health
    rows = Snapshot.objects.filter(cluster=request.cluster)[:SHOWN]
    running = Job.objects.filter(
        cluster=request.cluster, kind=Job.Kind.SNAPSHOT, state=Job.State.RUNNING
    ).first()
    there = snapshot_job.archive()
    member = snapshot_job.source(health)
    tool = etcdctl_for(request.cluster)
    context = frame("Snapshots") | {
        "rows": [
            (row, LEVELS.get(row.state, ""), _is_there(row), row.file.rpartition("/")[2])
            for row in rows
        ],
        "running": running if running and not jobs.is_silent(running) else None,
        "schedule": _schedule(request),
        "fields": fields,
        "errors": errors,
        "units": list(UNITS),
        "found": _found(request, {row.file.rpartition("/")[2] for row in rows}),
        "directory": settings.SNAPSHOT_DIR / request.cluster.slug,
        "free_bytes": there.free_bytes(),
        "upload_bytes_max": settings.UPLOAD_BYTES_MAX,
        "upload_days": uploads.KEPT.days,
        "sources": [row.member for row in health.rows if row.member.reached_at],
        "chosen": member,
        "last": _verified(request).first(),
        "command": tool.at(member.reached_at).line("snapshot", "save", "backup.db")
        if member
        else "",
    }
    return render(request, "maintenance/snapshots.html", context, status=422 if errors else 200)


def _verified(request: HttpRequest) -> QuerySet[Snapshot]:
    return Snapshot.objects.filter(cluster=request.cluster, state=Snapshot.State.VERIFIED)


def _found(request: HttpRequest, known: set[str]) -> list[tuple[str, int, datetime | None]]:
    """Other snapshots in the cluster's directory: laid there by somebody, of any etcd perhaps, or
    sent here; these with the moment they are removed."""
    directory = settings.SNAPSHOT_DIR / request.cluster.slug
    if not directory.is_dir():
        return []
    names = sorted(
        p.name
        for p in directory.glob("*.db")
        if p.is_file() and p.name not in known and p.name[0] != "."
    )
    return [
        (
            name,
            (directory / name).stat().st_size,
            uploads.ends_at(name) if uploads.is_upload(name) else None,
        )
        for name in names[:SHOWN]
    ]


def _is_there(row: Snapshot) -> bool:
    return row.state == Snapshot.State.VERIFIED and snapshot_job.archive().has(row.file)


def _schedule(request: HttpRequest) -> SnapshotSchedule:
    found = SnapshotSchedule.objects.filter(cluster=request.cluster).first()
    return found or SnapshotSchedule(cluster=request.cluster)


def _fields(schedule: SnapshotSchedule) -> dict[str, Any]:
    every = schedule.every_minutes
    unit = next(u for u in ("days", "hours", "minutes") if every % UNITS[u] == 0)
    return {
        "is_on": schedule.is_on,
        "every": every // UNITS[unit],
        "unit": unit,
        "keep_count": schedule.keep_count,
        "keep_days": schedule.keep_days,
    }


@allow(Role.OPERATOR, "POST")
def schedule_snapshots(request: HttpRequest) -> HttpResponse:
    """A setting of the console: nothing on the cluster changes."""
    post = request.POST
    fields = {name: post.get(name, "") for name in ("every", "unit", "keep_count", "keep_days")}
    fields["is_on"] = "is_on" in post
    errors: dict[str, str] = {}
    unit = UNITS.get(fields["unit"], 0)
    every = _number(fields["every"], "every", 1, EVERY_MINUTES_MAX // (unit or 1), errors) * unit
    if not unit:
        errors["every"] = "Minutes, hours or days."
    count = _number(fields["keep_count"], "keep_count", 1, COUNT_MAX, errors)
    days = _number(fields["keep_days"] or "0", "keep_days", 0, COUNT_MAX, errors)
    if fields["is_on"] and request.cluster.asks_sign_in:
        errors["is_on"] = (
            "This connection asks people to sign in as themselves: nobody is there when a "
            "scheduled snapshot is due. Give it an etcd user first."
        )
    if errors:
        return _page(request, fields, errors)
    schedule = _schedule(request)
    schedule.is_on = fields["is_on"]
    schedule.every_minutes, schedule.keep_count, schedule.keep_days = every, count, days
    schedule.next_at = _next_turn(request, every) if schedule.is_on else None
    schedule.account, schedule.account_name = request.user, request.user.username
    schedule.save()
    detail = f"every {fields['every']} {fields['unit']}, keep {count}"
    detail += f", {days} days" if days else ""
    what = "schedule snapshots" if schedule.is_on else "stop scheduled snapshots"
    note(request, what, request.cluster.name, detail=detail, cluster=request.cluster)
    messages.success(
        request, f"Snapshots are saved: {detail}." if schedule.is_on else "No schedule any more."
    )
    return redirect("snapshots", request.cluster.slug)


def _next_turn(request: HttpRequest, every_minutes: int) -> datetime:
    """One interval after the last good snapshot, and at once when that is past or there is none."""
    last = _verified(request).first()
    due = last.taken_at + timedelta(minutes=every_minutes) if last else now()
    return max(due, now())


def _number(text: str, name: str, least: int, most: int, errors: dict[str, str]) -> int:
    if text.isascii() and text.isdigit() and len(text) < 9 and least <= int(text) <= most:
        return int(text)
    errors[name] = f"A whole number from {least} to {most}."
    return 0


@allow(Role.OPERATOR, "POST")
def save_snapshot(request: HttpRequest) -> HttpResponse:
    """To the directory, now, as a job."""
    address = str(request.META.get("REMOTE_ADDR", ""))
    try:
        job = snapshot_job.start(request.cluster, request.user, address=address)
    except jobs.Busy:
        text = "One snapshot a cluster at a time. Look at it on the maintenance page."
        return plain(request, "A snapshot is being saved already", text, 409)
    return redirect("job", request.cluster.slug, job.pk)


@allow(Role.OPERATOR, "POST")
def download_snapshot(request: HttpRequest) -> HttpResponseBase:
    """A member's snapshot straight to the browser; nothing is kept here."""
    health = sampler.snapshot(request.cluster).health
    member = snapshot_job.source(health, request.POST.get("member", ""))
    if member is None:
        return plain(request, "No such member", "It does not answer, or is not there.", 409)
    try:
        stream = SnapshotStream(request.gateway, member)
    except ClusterError as error:
        return cluster_error(request, error, "Downloading a snapshot", **frame("Snapshots"))
    name = f"{request.cluster.slug}-{now():%Y%m%dT%H%M%SZ}-rev{stream.revision}.db"
    command = etcdctl_for(request.cluster).at(member.reached_at).line("snapshot", "save", name)
    row = begun(request, "download snapshot", f"{name} from {member.label}", command=command)

    def at_end(why: str) -> None:
        stream.cancel()
        row.outcome = Outcome.FAILED if why else Outcome.DONE
        size = f"{stream.sent_bytes} of {stream.total_bytes} bytes"
        row.detail = f"{why}: {size}" if why else f"{size}, sha256 {stream.sha256}"
        row.save()

    return FileDownload(iter(stream), stream.total_bytes, name, at_end)


@allow(Role.OPERATOR, "POST")
def download_saved(request: HttpRequest, snapshot: int) -> HttpResponseBase:
    """A saved one, as it lies in the directory."""
    found = Snapshot.objects.filter(cluster=request.cluster, pk=snapshot).first()
    if found is None or not _is_there(found):
        raise Http404("There is no such snapshot, or its file is gone.")
    path = snapshot_job.archive().path(found.file)
    row = begun(request, "download saved snapshot", found.file)

    def at_end(why: str) -> None:
        row.outcome, row.detail = (Outcome.FAILED, why) if why else (Outcome.DONE, "")
        row.save()

    chunks: Iterator[bytes] = read_file(path)
    return FileDownload(chunks, path.stat().st_size, path.name, at_end)
