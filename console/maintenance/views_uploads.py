"""Opening a backup that lies on the operator's own machine: sent, looked into, removed again."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.timezone import now

from console.access import allow
from console.audit.record import note
from console.errors import plain
from console.keys.addresses import query_url
from console.maintenance import backup_index, jobs, open_job, uploads, work
from console.maintenance.archive import READ_BYTES, ArchiveError
from console.maintenance.open_job import file_of
from console.maintenance.snapshot_job import archive
from console.maintenance.views import frame
from console.models import Job
from console.roles import Role

NO_FILE = "No backup was sent"
NOT_KEPT = "The backup could not be kept"


@allow(Role.OPERATOR, "POST")
def upload_snapshot(request: HttpRequest) -> HttpResponse:
    """Written to the cluster's directory, then read once as a job, which checks its digest: one
    that is no sound snapshot is removed by it. Nothing on the cluster changes."""
    sent = request.FILES.get("file")
    if sent is None or not sent.size:
        return plain(request, NO_FILE, "Choose a file that is not empty.", 422)
    if sent.size > settings.UPLOAD_BYTES_MAX:
        most = settings.UPLOAD_BYTES_MAX // 2**20
        return plain(request, NO_FILE, f"It is larger than {most} MiB.", 413)
    name = uploads.name_for(sent.name or "", now())
    try:
        _keep(request, name, sent)
    except ArchiveError as error:
        return plain(request, NOT_KEPT, f"{error}.", 507)
    detail = f"{sent.size} bytes, kept until {uploads.ends_at(name):%Y-%m-%d}"
    note(request, "upload backup", name, detail=detail, cluster=request.cluster)
    try:
        job = jobs.create(request, Job.Kind.OPEN, open_job.stages(name))
    except jobs.Busy:
        messages.info(request, "It is here. Another snapshot is being read: open it after that.")
        return redirect(_browse_url(request, name))
    work.launch(job)
    return redirect("job", request.cluster.slug, job.pk)


def _keep(request: HttpRequest, name: str, sent: UploadedFile) -> None:
    there, file = archive(), f"{request.cluster.slug}/{name}"
    there.check_space(sent.size)
    try:
        there.give_name(there.write(file, sent.chunks(READ_BYTES)), file)
    except BaseException:
        there.discard(file)
        raise


def _browse_url(request: HttpRequest, name: str) -> str:
    return query_url(reverse("browse_snapshot", args=[request.cluster.slug]), file=name)


@allow(Role.OPERATOR, "GET", "POST")
def remove_upload(request: HttpRequest) -> HttpResponse:
    """`file`: one that was sent here. Level 2: what is lost is a copy."""
    name = request.POST.get("file") or request.GET.get("file", "")
    try:
        path = file_of(request.cluster, name)
    except ArchiveError as error:
        return plain(request, "There is no such backup", f"{error}.", 404)
    if not uploads.is_upload(path.name):
        text = "Only backups that were sent here are removed here; the others go by retention."
        return plain(request, "This file is not removed here", text, 400)
    if request.method == "POST":
        backup_index.drop(path)
        archive().remove(f"{request.cluster.slug}/{path.name}")
        note(request, "remove upload", path.name, cluster=request.cluster)
        messages.success(request, f"Removed {path.name}.")
        return redirect("snapshots", request.cluster.slug)
    context = frame("Remove backup") | {
        "file": path.name,
        "size_bytes": path.stat().st_size,
        "ends_at": uploads.ends_at(path.name),
        "back": _browse_url(request, path.name),
    }
    return render(request, "maintenance/remove_upload.html", context)
