"""Taking one alarm back: level 3, after looking at whether its reason is gone."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.audit.record import Outcome, etcdctl_for, recorded
from console.errors import cluster_error, plain
from console.gateway import ClusterError, upkeep
from console.maintenance.preflight import (
    MEANINGS,
    REMEDIES,
    Check,
    data_checks,
    space_checks,
)
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.maintenance.views import frame, hashes_now
from console.overview.health import Alarm, Health
from console.overview.sampler import sampler
from console.roles import Role


@allow(Role.OPERATOR, "GET", "POST", writes=True)
def disarm(request: HttpRequest) -> HttpResponse:
    """One alarm: `kind`, and `member`, the hexadecimal id of the member it is about."""
    asked = request.POST if request.method == "POST" else request.GET
    named = (asked.get("kind", ""), asked.get("member", ""))
    health = sampler.snapshot(request.cluster).health
    alarm = next((a for a in health.alarms if (a.kind, a.hex_id) == named), None)
    if alarm is None or alarm.kind not in MEANINGS:
        return plain(request, "No such alarm", "It is not raised, or not any more.", 400)
    checks = _checks(request, alarm, health)
    failed = any(check.level == "danger" for check in checks)
    errors: dict[str, str] = {}
    if request.method == "POST":
        if not is_confirmed(request):
            errors["confirm"] = WRONG_NAME
        if failed and "anyway" not in asked:
            errors["anyway"] = "A check fails: nothing was done. Repair it, or tick the box."
        if asked.get("step") == "start" and not errors:
            return _disarm(request, alarm, checks)
        errors.setdefault("step", "Nothing was disarmed.")
    context = frame("Disarm") | {
        "alarm": alarm,
        "meaning": MEANINGS[alarm.kind],
        "remedy": REMEDIES[alarm.kind],
        "checks": checks,
        "has_failed": failed,
        "others": [a for a in health.alarms if a != alarm],
        "errors": errors,
        "confirm_error": errors.get("confirm", ""),
        "command": etcdctl_for(request.cluster).line("alarm", "disarm"),
    }
    return render(request, "maintenance/disarm.html", context, status=422 if errors else 200)


def _checks(request: HttpRequest, alarm: Alarm, health: Health) -> list[Check]:
    if alarm.kind == "NOSPACE":
        return space_checks(health)
    found, _ = hashes_now(request.gateway, health)
    return data_checks(found)


def _disarm(request: HttpRequest, alarm: Alarm, checks: list[Check]) -> HttpResponse:
    what = f"{alarm.kind} on {alarm.member}"
    command = etcdctl_for(request.cluster).line("alarm", "disarm")
    try:
        with recorded(request, "disarm alarm", what, command=command) as row:
            was_raised = upkeep.disarm(request.gateway, alarm.kind, alarm.member_id)
            row.outcome = Outcome.DONE
            said = [f"{check.name}: {check.said}" for check in checks if check.level != "ok"]
            row.detail = "; ".join(said if was_raised else ["it was not raised any more"])
    except ClusterError as error:
        return cluster_error(request, error, f"Disarming {what}", **frame("Disarm"))
    messages.success(request, f"Disarmed {what}." if was_raised else f"{what} was gone before.")
    sampler.forget(request.cluster)
    return redirect("maintenance", request.cluster.slug)
