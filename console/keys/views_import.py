"""Keys from a file: level 3. First what it would change, then that, in guarded batches.

A small file is compared at once, a large one by a job whose page leads to the plan; what is
written is written by a job in either case (write_job.py). The file is named in the session of
whoever sent it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from console.access import allow
from console.errors import cluster_error
from console.gateway import ClusterError
from console.keys.addresses import BadAddress, list_url, number_of
from console.keys.apply import command_of
from console.keys.batches import OPS_MAX
from console.keys.byte_text import show
from console.keys.diff import Diff, compare_bytes
from console.keys.import_file import Source, first_entry, keep, lines
from console.keys.interchange import BadFile
from console.keys.lens import PLAIN
from console.keys.paging import one_key
from console.keys.plan import Plan
from console.keys.views_job import begin, busy, planned
from console.keys.views_list import lens_context
from console.keys.write_job import import_plan, stages
from console.maintenance.jobs import Busy
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.models import Job
from console.roles import Role

FILE_BYTES_MAX = 256 * 1024 * 1024
AT_ONCE_BYTES_MAX = 512 * 1024
"""A larger file is compared by a job: the page that would wait for it could take seconds."""
DIFFS_SAMPLED = 5
SESSION = "import"


@allow(Role.EDITOR, "GET", "POST", writes=True)
def import_keys(request: HttpRequest) -> HttpResponse:
    """`plan`: the job that compared the file."""
    frame: dict[str, Any] = lens_context(PLAIN) | {
        "title": "Import keys",
        "rail_current": "keys",
        "crumbs": [("Keys", "keys"), ("Import", None)],
        "cancel_url": list_url(request.cluster, b""),
        "existing": request.POST.get("existing", "change"),
        "leases": request.POST.get("leases", "none"),
    }
    try:
        if request.method == "POST":
            if request.POST.get("step") == "start":
                return _start(request, frame)
            return _upload(request, frame)
        if "plan" in request.GET:
            return _show(request, frame, *_compared_before(request))
        return render(request, "keys/import.html", frame)
    except BadFile as error:
        return render(request, "keys/import.html", frame | {"bad_file": str(error)}, status=422)
    except Busy:
        return busy(request)
    except ClusterError as error:
        return cluster_error(request, error, "Comparing the file with the cluster", **frame)


def _upload(request: HttpRequest, frame: dict[str, Any]) -> HttpResponse:
    sent = request.FILES.get("file")
    if sent is None or not sent.size:
        raise BadFile("no file was sent, or an empty one")
    if sent.size > FILE_BYTES_MAX:
        raise BadFile(f"the file is larger than {FILE_BYTES_MAX // 2**20} MiB")
    kind = "yaml" if sent.name.lower().endswith((".yaml", ".yml")) else "ndjson"
    # The one sent before is not wanted any more.
    _forget(request)
    source = _as_chosen(request, keep(sent.chunks(), kind, show(sent.name[:200].encode())))
    waiting = {"cluster": request.cluster.slug, "source": source.to_json(), "job": 0}
    request.session[SESSION] = waiting
    try:
        if sent.size <= AT_ONCE_BYTES_MAX:
            return _show(request, frame, source, _compare(request, source))
        about = {"source": source.to_json()}
        job = begin(request, Job.Kind.COMPARE, about, stages("Entries compared", lines(source)))
    except (BadFile, Busy, ClusterError):
        _forget(request)
        raise
    request.session[SESSION] = waiting | {"job": job.pk}
    return redirect("key_job", request.cluster.slug, job.pk)


def _as_chosen(request: HttpRequest, source: Source) -> Source:
    only_new = request.POST.get("existing") == "keep"
    return replace(source, only_new=only_new, takes_leases=request.POST.get("leases") == "file")


def _waiting(request: HttpRequest) -> dict[str, Any]:
    waiting: dict[str, Any] = request.session.get(SESSION) or {}
    if waiting.get("cluster") != request.cluster.slug:
        raise BadFile("the file is not here any more: send it again")
    if not Source.from_json(waiting["source"]).path.exists():
        raise BadFile("the file is not here any more: send it again")
    return waiting


def _forget(request: HttpRequest) -> None:
    waiting = request.session.pop(SESSION, None)
    if waiting:
        Source.from_json(waiting["source"]).forget()


def _compare(request: HttpRequest, source: Source) -> Plan:
    reader = request.gateway
    base = reader.newest_revision(one_key(first_entry(source).key))
    *_, (_, plan) = import_plan(reader, source, base)
    return plan


def _compared_before(request: HttpRequest) -> tuple[Source, Plan]:
    """The plan that a job made of the file that waits in this session."""
    waiting = _waiting(request)
    job = planned(request, request.GET.get("plan") or request.POST.get("plan", ""))
    if job is None or job.pk != waiting["job"]:
        raise Http404("There is no such plan in this session.")
    return Source.from_json(waiting["source"]), Plan.from_json(job.result["plan"])


def _show(
    request: HttpRequest, frame: dict[str, Any], source: Source, plan: Plan, **more: Any
) -> HttpResponse:
    first = plan.first_batch
    context = {
        **frame,
        "source": source,
        "existing": "keep" if source.only_new else "change",
        "leases": "file" if source.takes_leases else "none",
        "plan": plan,
        "planned_by": request.session[SESSION]["job"],
        "sample": _diffs(request, plan),
        "command": command_of(request.cluster, first, min(plan.changes, OPS_MAX))
        if first
        else None,
        **more,
    }
    return render(request, "keys/import.html", context, status=422 if more else 200)


def _diffs(request: HttpRequest, plan: Plan) -> list[tuple[Any, Diff | None]]:
    """The sample, its first ones with what changes in them."""
    told = [one for one in plan.sample[:DIFFS_SAMPLED] if one.change]
    held = request.gateway.keys_at([one.key for one in told], plan.base) if told else []
    diffs = {
        one.key: compare_bytes(now.value if now else None, one.change.value)
        for one, now in zip(told, held, strict=True)
    }
    return [(one, diffs.get(one.key)) for one in plan.sample]


def _start(request: HttpRequest, frame: dict[str, Any]) -> HttpResponse:
    waiting = _waiting(request)
    source = _as_chosen(request, Source.from_json(waiting["source"]))
    try:
        base = number_of(request.POST.get("base", ""))
        total = number_of(request.POST.get("changes", ""))
    except BadAddress:
        base = total = 0
    if not base:
        raise BadFile("the form does not say which revision was compared")
    if not is_confirmed(request):
        plan = _compared_before(request)[1] if waiting["job"] else _compare(request, source)
        return _show(request, frame, source, plan, confirm_error=WRONG_NAME)
    about = {"source": source.to_json(), "base": str(base)}
    job = begin(request, Job.Kind.IMPORT, about, stages("Keys written", total))
    # The file is the job's from here on.
    del request.session[SESSION]
    return redirect("key_job", request.cluster.slug, job.pk)
