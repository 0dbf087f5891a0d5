"""The page of an import, a rewind or the comparison before one: how far it is, batch by batch."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Count, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse

from console.access import allow
from console.audit.record import note
from console.errors import plain
from console.keys.addresses import list_url, query_url
from console.keys.lens import PLAIN
from console.keys.rewind import Rewind
from console.keys.views_list import lens_context
from console.maintenance import jobs, work
from console.maintenance.jobs import Step
from console.maintenance.present import LEVELS, steps_of
from console.models import Job
from console.roles import Role

DONE_SHOWN = 20
TROUBLES_SHOWN = 100
"""Batches on the page: every one that was not written, of the others the newest."""

ENDED = {"done": "done", "stopped": "stopped", "aborted": "stopped as asked"}


def begin(request: HttpRequest, kind: str, about: dict[str, Any], steps: list[Step]) -> Job:
    """Raises Busy while another one of this cluster runs."""
    job = jobs.create(request, kind, steps, result=about)
    work.launch_and_see(job)
    return job


def busy(request: HttpRequest) -> HttpResponse:
    running = Job.objects.filter(
        cluster=request.cluster, lane=Job.Lane.KEYS, state=Job.State.RUNNING
    ).first()
    who = f" {running.get_kind_display()} {running.pk} of {running.account_name}" if running else ""
    text = f"One import or rewind a cluster at a time.{who} runs. Nothing was begun."
    back = reverse("key_job", args=[request.cluster.slug, running.pk]) if running else ""
    return plain(request, "Another one runs already", text, 409, back=back)


def planned(request: HttpRequest, text: str) -> Job | None:
    """The comparison that an address names, once it is done."""
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        return None
    done = Job.objects.filter(cluster=request.cluster, kind=Job.Kind.COMPARE, state=Job.State.DONE)
    return done.filter(pk=int(text)).first()


@allow(Role.EDITOR)
def key_job(request: HttpRequest, job: int) -> HttpResponse:
    found = job_of(request, job)
    context = lens_context(PLAIN) | {
        "title": f"{found.get_kind_display()} {found.pk}",
        "rail_current": "keys",
        "crumbs": [("Keys", "keys"), (f"{found.get_kind_display()} {found.pk}", None)],
    }
    return render(request, "keys/job.html", context | job_context(found))


@allow(Role.EDITOR)
def key_job_live(request: HttpRequest, job: int) -> HttpResponse:
    """The live region alone, for the poll."""
    return render(request, "keys/_job.html", job_context(job_of(request, job)))


@allow(Role.EDITOR, "POST")
def stop_key_job(request: HttpRequest, job: int) -> HttpResponse:
    """Between two batches: what is written stays written. Writes nothing itself, so that a
    connection which became read-only does not keep anybody from it."""
    found = job_of(request, job)
    asked = Job.objects.filter(pk=found.pk, state=Job.State.RUNNING).update(abort_asked=True)
    if asked:
        note(request, "stop job", f"job {found.pk}", cluster=request.cluster)
        messages.info(request, "It stops in a moment. What is written stays written.")
    else:
        messages.info(request, f"Job {found.pk} had ended before: nothing to stop.")
    return redirect("key_job", request.cluster.slug, found.pk)


def job_of(request: HttpRequest, pk: int) -> Job:
    found = Job.objects.filter(cluster=request.cluster, lane=Job.Lane.KEYS, pk=pk).first()
    if found is None:
        raise Http404("There is no such import or rewind on this cluster.")
    return found


def fragment(job: Job) -> str:
    """The live region to be swapped in by its id."""
    return render_to_string("keys/_job.html", job_context(job) | {"oob": True})


def job_context(job: Job) -> dict[str, Any]:
    state = str(Job.State.INTERRUPTED) if jobs.is_silent(job) else job.state
    [step] = steps_of(job)
    sums = job.batches.values("state").annotate(batches=Count("pk"), keys=Sum("changes"))
    states = {one["state"]: one["batches"] for one in sums.order_by("state")}
    written = sum(one["keys"] for one in sums if one["state"] == "done")
    troubles = list(job.batches.exclude(state="done")[:TROUBLES_SHOWN])
    newest = list(job.batches.filter(state="done").order_by("-number")[:DONE_SHOWN])
    shown = sorted([*troubles, *newest], key=lambda batch: batch.number)
    for batch in shown:  # some databases give a view of the bytes
        batch.first, batch.last = bytes(batch.first), bytes(batch.last)
    is_partly = state == Job.State.DONE and bool(troubles)
    return {
        "job": job,
        "cluster": job.cluster,
        "about": _about(job),
        "state": state,
        "headline": "partly done" if is_partly else ENDED.get(state, state),
        "level": "warn" if is_partly else LEVELS.get(state, ""),
        "is_running": state == Job.State.RUNNING,
        "is_compare": job.kind == Job.Kind.COMPARE,
        "step": step,
        "percent": int(100 * step.share),
        "written": written,
        "states": states,
        "has_troubles": bool(troubles),
        "batches": shown,
        "left_out": sum(states.values()) - len(shown),
        "plan_url": _plan_url(job) if state == Job.State.DONE and "plan" in job.result else None,
        "undo_url": _undo_url(job) if written and state != Job.State.RUNNING else None,
        "back_url": list_url(job.cluster, b""),
    }


def _about(job: Job) -> str:
    if "source" in job.result:
        return str(job.result["source"]["name"])
    rewind = Rewind.from_json(job.result["rewind"])
    return f"{rewind.said} to revision {rewind.to}"


def _plan_url(job: Job) -> str:
    if "source" in job.result:
        return query_url(reverse("import_keys", args=[job.cluster.slug]), plan=job.pk)
    to = job.result["rewind"]["to"]
    return query_url(_rewind_path(job), **job.result["fields"], to=to, plan=job.pk)


def _undo_url(job: Job) -> str | None:
    """A rewind is undone by another one, of the same range to the revision it was planned at."""
    if job.kind != Job.Kind.REWIND:
        return None
    return query_url(_rewind_path(job), **job.result["fields"], to=job.result["base"])


def _rewind_path(job: Job) -> str:
    return reverse("rewind", args=[job.cluster.slug])
