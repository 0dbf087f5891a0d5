"""Looking into a snapshot, ours or a real etcd's, and taking single keys out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console.access import allow
from console.audit.record import etcdctl_for, note, recorded
from console.errors import cluster_error, plain
from console.gateway import ClusterError, Key, backups
from console.gateway.backups import BackupError
from console.keys.addresses import BadAddress, bytes_of, key_of, key_url, number_of, query_url
from console.keys.byte_text import show
from console.keys.diff import compare_bytes
from console.keys.paging import PAGE_KEYS, prefix_range
from console.keys.views_write import note_outcome, toast
from console.maintenance import backup_index, jobs, open_job, uploads, work
from console.maintenance.archive import ArchiveError
from console.maintenance.backup_index import index_path
from console.maintenance.open_job import file_of
from console.maintenance.views import frame
from console.models import Job
from console.roles import Role

GONE = "This snapshot cannot be opened"


@allow(Role.OPERATOR, "GET", "POST")
def browse(request: HttpRequest) -> HttpResponse:
    """`file`; `prefix` and `after` of a page. POST reads the file once, as a job."""
    name = request.POST.get("file") or request.GET.get("file", "")
    try:
        path = file_of(request.cluster, name)
        if request.method == "POST":
            return _open(request, name)
        prefix_text = request.GET.get("prefix", "")
        prefix, after = bytes_of(prefix_text), bytes_of(request.GET.get("after", ""))
        seen = number_of(request.GET.get("seen", "")) if after else 0
    except (ArchiveError, BadAddress) as error:
        return plain(request, GONE, f"{error}.", 404)
    context = frame(name) | {"file": name, "prefix_text": prefix_text, "prefix": prefix}
    context["is_upload"] = uploads.is_upload(name)
    index = index_path(path)
    if not index.exists():
        return render(request, "maintenance/backup.html", context)
    entries, count = backup_index.page_of(index, prefix_range(prefix), after or None, PAGE_KEYS)
    here = reverse("browse_snapshot", args=[request.cluster.slug])
    context |= {
        "facts": backup_index.facts(index),
        "entries": [(one, _key_url(request, name, one.key)) for one in entries],
        "count": count,
        "first": seen + 1,
        "last": seen + len(entries),
        "next_url": query_url(
            here,
            file=name,
            prefix=prefix_text,
            after=show(entries[-1].key),
            seen=seen + len(entries),
        )
        if entries and seen + len(entries) < count
        else None,
    }
    return render(request, "maintenance/backup.html", context)


def _open(request: HttpRequest, name: str) -> HttpResponse:
    try:
        job = jobs.create(request, Job.Kind.OPEN, open_job.stages(name))
    except jobs.Busy:
        return plain(request, "Another snapshot is being opened", "One at a time.", 409)
    note(request, "open snapshot", name, cluster=request.cluster)
    work.launch(job)
    return redirect("job", request.cluster.slug, job.pk)


def _key_url(request: HttpRequest, file: str, key: bytes) -> str:
    return key_url(request.cluster, key, "snapshot_key", file=file)


@allow(Role.OPERATOR, "GET", "POST", writes=True)
def snapshot_key(request: HttpRequest) -> HttpResponse:
    """One key of `file` beside what it is now. POST puts it back, guarded by `base`: level 1."""
    name = request.GET.get("file", "")
    try:
        path, key = file_of(request.cluster, name), key_of(request)
        base = number_of(request.POST.get("base", ""))
        kept = _kept(path, key)
    except (ArchiveError, BadAddress, BackupError, OSError) as error:
        return plain(request, GONE, f"{error}.", 404)
    if kept is None:
        text = f"The snapshot holds no key {show(key)}, or has not been opened yet."
        return plain(request, "There is no such key in it", text, 404)
    context = frame(show(key)) | {"file": name, "key": key, "kept": kept}
    try:
        if request.method == "POST":
            return _put(request, kept, base, name, context)
        return _plan(request, kept, context)
    except ClusterError as error:
        tried = f"Looking at the key {show(key)}"
        return cluster_error(request, error, tried, **frame("Snapshots"))


def _kept(path: Path, key: bytes) -> Key | None:
    index = index_path(path)
    entry = backup_index.entry_of(index, key) if index.exists() else None
    return backups.key_at(str(path), entry.place) if entry else None


def _plan(
    request: HttpRequest, kept: Key, context: dict[str, Any], conflict: int | None = None
) -> HttpResponse:
    now, newest = request.gateway.key(kept.key)
    context |= {
        "now": now,
        "newest": newest,
        "is_same": now is not None and now.value == kept.value,
        "diff": compare_bytes(now.value if now else None, kept.value),
        "conflict": conflict,
        "back": reverse("browse_snapshot", args=[request.cluster.slug])
        + "?"
        + urlencode({"file": context["file"]}),
        "command": _command(request, kept, now.mod_revision if now else 0, bool(now and now.lease)),
    }
    status = 200 if conflict is None else 409
    return render(request, "maintenance/backup_key.html", context, status=status)


def _put(
    request: HttpRequest, kept: Key, base: int, file: str, context: dict[str, Any]
) -> HttpResponse:
    """The lease the key has now stays; the one of then is none of today's."""
    assert kept.value is not None
    keeps_lease = base > 0 and request.POST.get("lease") == "keep"
    with recorded(
        request,
        "take key out of snapshot",
        f"{show(kept.key)} from {file}",
        command=_command(request, kept, base, keeps_lease),
        revision_before=base or None,
    ) as row:
        written = request.gateway.put(
            kept.key, kept.value, base_mod_revision=base, keeps_lease=keeps_lease
        )
        note_outcome(row, written)
    if not written.is_done:
        return _plan(request, kept, context, conflict=base)
    toast(request, "Restored", kept.key, mod=written.revision, to=base)
    return redirect(key_url(request.cluster, kept.key))


def _command(request: HttpRequest, kept: Key, base: int, keeps_lease: bool) -> str:
    assert kept.value is not None
    tool = etcdctl_for(request.cluster)
    return tool.put(kept.key, kept.value, base=base, keeps_lease=keeps_lease)
