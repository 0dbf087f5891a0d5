"""Defragmentation, of one member or of all in turn: level 3, a plan page, then a job."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.errors import plain
from console.maintenance import jobs, work
from console.maintenance.defragmentation import defragment_command, steps_of
from console.maintenance.plan import FRAGMENTED_PERCENT, Sizes, gate, in_order, stops_writes
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.maintenance.views import frame
from console.models import Job
from console.overview.health import Health, Row
from console.overview.sampler import sampler
from console.roles import Role


@allow(Role.OPERATOR, "GET", "POST", writes=True)
def defragment(request: HttpRequest) -> HttpResponse:
    """One member, named by `member`, its hexadecimal id."""
    health = sampler.snapshot(request.cluster).health
    wanted = request.POST.get("member") or request.GET.get("member", "")
    row = next((r for r in health.rows if wanted and r.member.hex_id == wanted), None)
    if row is None:
        return plain(request, "No such member", "The address names no member of this cluster.", 400)
    if row.member.status is None:
        text = f"{row.member.label} does not answer: {row.member.failure or row.state}."
        return plain(request, "This member cannot be defragmented now", text, 409)
    if request.method == "POST":
        if request.POST.get("step") == "start" and is_confirmed(request):
            return _start(request, Job.Kind.DEFRAGMENT, [row], 0)
        return _plan_one(request, health, row, WRONG_NAME)
    return _plan_one(request, health, row, "")


def _plan_one(request: HttpRequest, health: Health, row: Row, error: str) -> HttpResponse:
    assert row.member.status
    context = frame(f"Defragment {row.member.label}") | {
        "row": row,
        "member": row.member,
        "sizes": Sizes.of(row.member.status),
        "stops_writes": stops_writes(health, row.member),
        "is_alone": len(health.rows) == 1,
        "others": [one for one in health.rows if one.member.id != row.member.id],
        "confirm_error": error,
        "command": defragment_command(request.cluster, row.member),
    }
    status = 422 if error else 200
    return render(request, "maintenance/defragment.html", context, status=status)


@allow(Role.OPERATOR, "GET", "POST", writes=True)
def rolling(request: HttpRequest) -> HttpResponse:
    """Every member in turn, the leader last."""
    health = sampler.snapshot(request.cluster).health
    errors: dict[str, str] = {}
    threshold = _threshold(request, errors)
    if request.method == "POST":
        if not is_confirmed(request):
            errors["confirm"] = WRONG_NAME
        if request.POST.get("step") == "start" and not errors:
            return _start(request, Job.Kind.ROLLING, in_order(health.rows), threshold)
        errors.setdefault("step", "Nothing was started.")
    return _plan_rolling(request, health, threshold, errors)


def _threshold(request: HttpRequest, errors: dict[str, str]) -> int:
    text = request.POST.get("threshold") or request.GET.get("threshold", "")
    if not text:
        return FRAGMENTED_PERCENT
    if not text.isascii() or not text.isdigit() or int(text) > 100:
        errors["threshold"] = "A whole number from 0 to 100."
        return FRAGMENTED_PERCENT
    return int(text)


def _plan_rolling(
    request: HttpRequest, health: Health, threshold: int, errors: dict[str, str]
) -> HttpResponse:
    steps: list[dict[str, Any]] = []
    for row in in_order(health.rows):
        sizes = Sizes.of(row.member.status) if row.member.status else None
        is_due = sizes is not None and sizes.free_percent >= threshold
        steps.append({"row": row, "member": row.member, "sizes": sizes, "is_due": is_due})
    commands = [defragment_command(request.cluster, s["member"]) for s in steps if s["is_due"]]
    context = frame("Defragment all members") | {
        "steps": steps,
        "due": sum(1 for step in steps if step["is_due"]),
        "free_bytes": sum(step["sizes"].free_bytes for step in steps if step["is_due"]),
        "gate": gate(health),
        "voters": health.voters,
        "threshold": threshold,
        "errors": errors,
        "confirm_error": errors.get("confirm", ""),
        "command": "\n".join(commands) or "# no member is fragmented enough",
    }
    status = 422 if errors else 200
    return render(request, "maintenance/rolling.html", context, status=status)


def _start(request: HttpRequest, kind: str, rows: list[Row], threshold: int) -> HttpResponse:
    try:
        job = jobs.create(request, kind, steps_of([row.member for row in rows]), threshold)
    except jobs.Busy:
        text = "One job a cluster at a time. Look at it on the maintenance page."
        return plain(request, "Another job runs on this cluster", text, 409)
    work.launch(job)
    return redirect("job", request.cluster.slug, job.pk)
