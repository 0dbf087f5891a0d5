"""Maintenance: every member's database, and jobs. What acts has modules of its own."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.audit.record import etcdctl_for, note
from console.gateway import Reader, upkeep
from console.maintenance.jobs import READS_ONLY
from console.maintenance.plan import MemberHash, Sizes
from console.maintenance.preflight import MEANINGS, REMEDIES
from console.maintenance.present import job_context
from console.models import Job
from console.overview.health import Alarm, Health
from console.overview.present import MemberRow, health_now
from console.roles import Role

JOBS_SHOWN = 8


def frame(title: str) -> dict[str, Any]:
    crumbs = [("Cluster", None), ("Maintenance", "maintenance")]
    if title != "Maintenance":
        crumbs.append((title, None))
    return {"title": title, "rail_current": "maintenance", "crumbs": crumbs}


@allow(Role.OPERATOR)
def maintenance(request: HttpRequest) -> HttpResponse:
    command = etcdctl_for(request.cluster).line("endpoint", "status", "--cluster", "-w", "table")
    context = frame("Maintenance") | live_context(request) | {"command": command}
    return render(request, "maintenance/page.html", context)


@allow(Role.OPERATOR)
def live(request: HttpRequest) -> HttpResponse:
    """The live region alone, for the poll."""
    return render(request, "maintenance/_live.html", live_context(request))


def live_context(request: HttpRequest) -> dict[str, Any]:
    health, rows = health_now(request.cluster)
    jobs = list(Job.objects.filter(cluster=request.cluster)[:JOBS_SHOWN])
    return {
        "health": health,
        "rows": [_database(row, health.alarms) for row in rows],
        "alarms": [told(alarm) for alarm in health.alarms],
        "jobs": [job_context(job) for job in jobs],
        "may_act": not request.cluster.is_read_only,
    }


def _database(shown: MemberRow, alarms: tuple[Alarm, ...]) -> dict[str, Any]:
    """A silent member's sizes are those it told last."""
    member = shown.row.member
    return {
        "row": shown.row,
        "member": member,
        "sizes": Sizes.of(shown.shown) if shown.shown else None,
        "is_stale": shown.is_stale,
        "seen_seconds": shown.seen_seconds,
        "alarms": [alarm.kind for alarm in alarms if alarm.member_id == member.id],
    }


def told(alarm: Alarm) -> dict[str, Any]:
    """An alarm with what it means; only the two known kinds can be disarmed here."""
    return {
        "alarm": alarm,
        "meaning": MEANINGS.get(alarm.kind, ""),
        "remedy": REMEDIES.get(alarm.kind, ""),
        "is_known": alarm.kind in MEANINGS,
    }


@allow(Role.OPERATOR)
def job(request: HttpRequest, job: int) -> HttpResponse:
    found = job_of(request, job)
    if found.lane == Job.Lane.KEYS:
        return redirect("key_job", request.cluster.slug, found.pk)
    context = frame(found.get_kind_display()) | job_context(found)
    return render(request, "maintenance/job.html", context)


@allow(Role.OPERATOR)
def job_live(request: HttpRequest, job: int) -> HttpResponse:
    return render(request, "maintenance/_job.html", job_context(job_of(request, job)))


@allow(Role.OPERATOR, "POST")
def abort_job(request: HttpRequest, job: int) -> HttpResponse:
    """The member at work is finished; what follows it is not begun. What only reads stops at
    once. Changes nothing on the cluster, so a read-only connection allows it."""
    found = job_of(request, job)
    asked = Job.objects.filter(pk=found.pk, state=Job.State.RUNNING).update(abort_asked=True)
    if asked:
        note(request, "abort job", f"job {found.pk}", cluster=request.cluster)
        is_scan = found.kind in READS_ONLY
        where = "in a moment" if is_scan else "after the member it is at"
        messages.info(request, f"The job stops {where}.")
    else:
        messages.info(request, f"Job {found.pk} had ended before: nothing to abort.")
    return redirect("job", request.cluster.slug, found.pk)


def job_of(request: HttpRequest, pk: int) -> Job:
    found = Job.objects.filter(cluster=request.cluster, pk=pk).first()
    if found is None:
        raise Http404("There is no such job on this cluster.")
    return found


def hashes_now(reader: Reader, health: Health) -> tuple[list[MemberHash], int]:
    """HashKV of every member at the newest revision all of them have, and that revision."""
    members = [row.member for row in health.rows]
    revision = min((m.status.revision for m in members if m.status), default=0)
    return upkeep.hashes(reader, members, revision), revision
