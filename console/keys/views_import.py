"""Keys from a file: level 3. First what it would change, then that, in guarded batches.

The file waits between the two pages in the console's own directory, readable by nobody else,
named in the session of whoever sent it, and goes after an hour at the latest.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.errors import cluster_error
from console.gateway import ClusterError, Key
from console.keys.addresses import BadAddress, list_url, number_of
from console.keys.apply import command_of, results_context, write_batches
from console.keys.batches import OPS_MAX, Change
from console.keys.diff import compare_bytes
from console.keys.interchange import BadFile, Entry, read
from console.keys.lens import PLAIN
from console.keys.paging import one_key
from console.keys.views_list import lens_context
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.roles import Role

FILE_BYTES_MAX = 256 * 1024 * 1024
ENTRIES_MAX = 100_000
KEPT_SECONDS = 3600
SAMPLE = 20
DIFFS_SAMPLED = 5
LOOKED_UP_AT_ONCE = 100
SESSION = "import"


@allow(Role.EDITOR, "GET", "POST", writes=True)
def import_keys(request: HttpRequest) -> HttpResponse:
    frame: dict[str, Any] = lens_context(PLAIN) | {
        "title": "Import keys",
        "rail_current": "keys",
        "crumbs": [("Keys", "keys"), ("Import", None)],
        "cancel_url": list_url(request.cluster, b""),
        "existing": request.POST.get("existing", "change"),
        "leases": request.POST.get("leases", "none"),
    }
    if request.method != "POST":
        return render(request, "keys/import.html", frame)
    try:
        if request.POST.get("step") == "start":
            return _start(request, frame)
        return _upload(request, frame)
    except BadFile as error:
        return render(request, "keys/import.html", frame | {"bad_file": str(error)}, status=422)
    except ClusterError as error:
        return cluster_error(request, error, "Comparing the file with the cluster", **frame)


def _upload(request: HttpRequest, frame: dict[str, Any]) -> HttpResponse:
    sent = request.FILES.get("file")
    if sent is None or not sent.size:
        raise BadFile("no file was sent, or an empty one")
    if sent.size > FILE_BYTES_MAX:
        raise BadFile(f"the file is larger than {FILE_BYTES_MAX // 2**20} MiB")
    kind = "yaml" if sent.name.lower().endswith((".yaml", ".yml")) else "ndjson"
    directory = spool()
    token = secrets.token_urlsafe(24)
    path = directory / token
    path.touch(mode=0o600)
    with path.open("wb") as file:
        for chunk in sent.chunks():
            file.write(chunk)
    # The one sent before is not wanted any more.
    _forget(request)
    request.session[SESSION] = {"token": token, "kind": kind, "name": sent.name[:200]}
    request.session[SESSION]["cluster"] = request.cluster.slug
    try:
        return _plan(request, frame)
    except (BadFile, ClusterError):
        _forget(request)
        raise


def spool() -> Path:
    """Where files wait; what has waited too long goes."""
    directory = Path(settings.CONSOLE_DIR) / "imports"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in directory.iterdir():
        if path.stat().st_mtime < time.time() - KEPT_SECONDS:
            path.unlink(missing_ok=True)
    return directory


def _waiting(request: HttpRequest) -> dict[str, str]:
    waiting: dict[str, str] = request.session.get(SESSION) or {}
    if waiting.get("cluster") != request.cluster.slug or not _path(waiting).exists():
        raise BadFile("the file is not here any more: send it again")
    return waiting


def _path(waiting: dict[str, str]) -> Path:
    return Path(settings.CONSOLE_DIR) / "imports" / waiting["token"]


def _forget(request: HttpRequest) -> None:
    waiting = request.session.pop(SESSION, None)
    if waiting:
        _path(waiting).unlink(missing_ok=True)


def _plan(request: HttpRequest, frame: dict[str, Any], **more: Any) -> HttpResponse:
    waiting = _waiting(request)
    reader = request.gateway
    base = reader.newest_revision(one_key(_first(waiting).key))
    counts: Counter[str] = Counter()
    sample: list[tuple[Change, Key | None]] = []
    first: list[Change] = []
    with_lease = 0
    for entry, now, change in _compared(request, waiting, base):
        counts[change.kind if change else _why_not(entry, now)] += 1
        with_lease += bool(entry.lease)
        if change and len(sample) < SAMPLE:
            sample.append((change, now))
        if change and len(first) < OPS_MAX:
            first.append(change)
    context = {
        **frame,
        "waiting": waiting,
        "base": base,
        "counts": dict(counts),
        "changes": counts["create"] + counts["change"],
        "with_lease": with_lease,
        "sample": [
            (change, _diff(change, now) if number < DIFFS_SAMPLED else None)
            for number, (change, now) in enumerate(sample)
        ],
        "command": command_of(request, first) if first else None,
        **more,
    }
    return render(request, "keys/import.html", context, status=422 if more else 200)


def _first(waiting: dict[str, str]) -> Entry:
    """Whoever may read nothing else may read this, or the import would be refused anyway."""
    with _path(waiting).open("rb") as file:
        for entry in read(file, waiting["kind"]):
            return entry
    raise BadFile("the file has no entries")


def _why_not(entry: Entry, now: Key | None) -> str:
    return "same" if now and now.value == entry.value else "skipped"


def _diff(change: Change, now: Key | None) -> Any:
    return compare_bytes(now.value if now else None, change.value)


def _start(request: HttpRequest, frame: dict[str, Any]) -> HttpResponse:
    waiting = _waiting(request)
    try:
        base = number_of(request.POST.get("base", ""))
    except BadAddress:
        base = 0
    if not base:
        raise BadFile("the form does not say which revision was compared")
    if not is_confirmed(request):
        return _plan(request, frame, confirm_error=WRONG_NAME)
    counts: Counter[str] = Counter()

    def changes() -> Iterator[Change]:
        for _, _, change in _compared(request, waiting, base):
            if change:
                yield change
            else:
                counts["skipped"] += 1

    applied = write_batches(request, "import keys", waiting["name"], changes())
    _forget(request)
    context = frame | results_context(applied) | {"skipped": counts["skipped"], "verb": "Import"}
    return render(request, "keys/results.html", context)


def _compared(
    request: HttpRequest, waiting: dict[str, str], base: int
) -> Iterator[tuple[Entry, Key | None, Change | None]]:
    """Every entry with what the cluster held at `base` and what is to be done about it."""
    takes_leases = request.POST.get("leases") == "file"
    only_new = request.POST.get("existing") == "keep"
    alive: dict[int, bool] = {}
    with _path(waiting).open("rb") as file:
        for block in _blocks(read(file, waiting["kind"])):
            held = request.gateway.keys_at([entry.key for entry in block], base)
            for entry, now in zip(block, held, strict=True):
                lease = entry.lease if takes_leases else 0
                if lease and lease not in alive:
                    alive[lease] = not request.gateway.lease_time(lease).is_gone
                lease = lease if alive.get(lease) else 0
                yield entry, now, _change(entry, now, lease, only_new)


def _change(entry: Entry, now: Key | None, lease: int, only_new: bool) -> Change | None:
    if now is None:
        return Change(entry.key, 0, entry.value, lease)
    is_same = now.value == entry.value and (not lease or lease == now.lease)
    if only_new or is_same:
        return None
    # A key keeps the lease it has unless the file's is taken (trap 1).
    keeps = bool(now.lease) and not lease
    return Change(entry.key, now.mod_revision, entry.value, lease, keeps_lease=keeps)


def _blocks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Blocks small enough to be held: by count and by bytes. A key stands in a file once."""
    block: list[Entry] = []
    size = 0
    seen: set[bytes] = set()
    for entry in entries:
        mark = blake2b(entry.key, digest_size=16).digest()
        if mark in seen:
            raise BadFile(f"line {entry.line}: this key stands in the file twice")
        if len(seen) == ENTRIES_MAX:
            raise BadFile(f"more than {ENTRIES_MAX} entries: split the file")
        seen.add(mark)
        block.append(entry)
        size += len(entry.value)
        if len(block) == LOOKED_UP_AT_ONCE or size > 4 * 1024 * 1024:
            yield block
            block, size = [], 0
    if block:
        yield block
