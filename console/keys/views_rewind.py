"""All keys of a range back to what they were at a revision. Level 3: plan, review, apply, undo.

A small range is compared at once, a large one by a job whose page leads to the plan; what is
written is written by a job in either case (write_job.py).
"""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.equivalent import Command
from console.errors import cluster_error, plain
from console.gateway import ClusterError, Key, Reader
from console.keys.addresses import BadAddress, list_url, number_of
from console.keys.apply import command_of
from console.keys.batches import OPS_MAX, Change
from console.keys.diff import compare_bytes
from console.keys.plan import Plan
from console.keys.rewind import Rewind
from console.keys.views_job import begin, busy, planned
from console.keys.views_range import range_frame, range_of
from console.keys.write_job import rewind_plan, stages
from console.maintenance.jobs import Busy
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.models import Job
from console.roles import Role

TOLD = 5
"""Keys of the sample that are shown with what changes in them."""
AT_ONCE_KEYS_MAX = 5_000
"""A page that compares more could take seconds: a job does it."""
KEYS_MAX = 1_000_000
"""Keys a rewind looks at, on either side; beyond it somebody has to choose a narrower prefix."""

Both = list[Key | None]


@allow(Role.EDITOR, "GET", "POST", writes=True)
def rewind(request: HttpRequest) -> HttpResponse:
    """`to`: the revision. `plan`: the job that compared with it."""
    frame = range_frame("Rewind")
    try:
        keys, fields, prefix = range_of(request)
        to = number_of(request.POST.get("to") or request.GET.get("to", ""))
        base = number_of(request.POST.get("base", ""))
    except BadAddress as error:
        return plain(request, "This address names no range", str(error), 400)
    frame |= {"range": keys, "fields": fields, "prefix": prefix, "to": to}
    frame["cancel_url"] = list_url(request.cluster, prefix)
    if not to:
        return render(request, "keys/rewind.html", frame)
    try:
        return _rewind(request, Rewind(keys, to), base, frame)
    except Busy:
        return busy(request)
    except ClusterError as error:
        more = {**frame, "newest_url": frame["cancel_url"]}
        return cluster_error(request, error, f"Comparing with revision {to}", **more)


def _rewind(request: HttpRequest, wanted: Rewind, base: int, frame: dict[str, Any]) -> HttpResponse:
    step = request.POST.get("step") if request.method == "POST" else ""
    if step == "start" and base and is_confirmed(request):
        return _start(request, wanted, base, frame)
    more = {"confirm_error": WRONG_NAME} if step == "start" and base else {}
    if request.GET.get("plan") or request.POST.get("plan"):
        job = _compared_before(request, wanted)
        plan = Plan.from_json(job.result["plan"])
        return _show(request, wanted, plan, frame, planned_by=job.pk, **more)
    looked_at = _keys_to_look_at(request.gateway, wanted)
    if looked_at > KEYS_MAX:
        text = f"There are more than {KEYS_MAX} keys in it. Choose a longer prefix."
        return plain(request, "This range is too large for one rewind", text, 422)
    if looked_at > AT_ONCE_KEYS_MAX:
        if step == "compare":
            return _compare_by_job(request, wanted, looked_at, frame)
        return render(request, "keys/rewind.html", frame | {"looked_at": looked_at})
    base = request.gateway.newest_revision(wanted.keys)
    *_, (_, plan) = rewind_plan(request.gateway, wanted, base)
    return _show(request, wanted, plan, frame, **more)


def _keys_to_look_at(reader: Reader, wanted: Rewind) -> int:
    return max(reader.count(wanted.keys), reader.count(wanted.keys, wanted.to))


def _compare_by_job(
    request: HttpRequest, wanted: Rewind, looked_at: int, frame: dict[str, Any]
) -> HttpResponse:
    about = {"rewind": wanted.to_json(), "fields": frame["fields"]}
    job = begin(request, Job.Kind.COMPARE, about, stages("Keys compared", looked_at))
    return redirect("key_job", request.cluster.slug, job.pk)


def _compared_before(request: HttpRequest, wanted: Rewind) -> Job:
    job = planned(request, request.GET.get("plan") or request.POST.get("plan", ""))
    if job is None or job.result.get("rewind") != wanted.to_json():
        raise Http404("There is no such plan for this range.")
    return job


def _show(
    request: HttpRequest, wanted: Rewind, plan: Plan, frame: dict[str, Any], **more: Any
) -> HttpResponse:
    told = [one.key for one in plan.sample[:TOLD]]
    held = _held(request.gateway, told, plan.base, wanted.to)
    diffs = {key: compare_bytes(*(one.value if one else None for one in held[key])) for key in told}
    context = {
        **frame,
        "plan": plan,
        "sample": [(one, diffs.get(one.key)) for one in plan.sample],
        "leases": request.POST.get("leases", ""),
        "command": _command(request, plan, held),
        **more,
    }
    status = 422 if "confirm_error" in more else 200
    return render(request, "keys/rewind.html", context, status=status)


def _held(reader: Reader, keys: list[bytes], base: int, to: int) -> dict[bytes, Both]:
    """What each key holds now and what it held then."""
    now, old = (reader.keys_at(keys, at) if keys else [] for at in (base, to))
    return {key: both for key, *both in zip(keys, now, old, strict=True)}


def _command(request: HttpRequest, plan: Plan, held: dict[bytes, Both]) -> Command | None:
    """The first batch, as far as the plan has looked into it."""
    changes = [
        Change(
            key,
            now.mod_revision if now else 0,
            old.value if old else None,
            keeps_lease=bool(now and old),
        )
        for key, (now, old) in held.items()
    ]
    return command_of(request.cluster, changes, min(plan.changes, OPS_MAX)) if changes else None


def _start(request: HttpRequest, wanted: Rewind, base: int, frame: dict[str, Any]) -> HttpResponse:
    try:
        total = number_of(request.POST.get("changes", ""))
    except BadAddress:
        total = 0
    about = {
        "rewind": wanted.to_json(),
        "fields": frame["fields"],
        "base": str(base),
        "leases": request.POST.get("leases") == "old",
    }
    job = begin(request, Job.Kind.REWIND, about, stages("Keys written", total))
    return redirect("key_job", request.cluster.slug, job.pk)
