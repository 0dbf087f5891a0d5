"""Do members hold the same? HashKV over all of them, and one key read from each."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import etcdctl_for
from console.gateway.lens import look
from console.keys.addresses import BadAddress, bytes_of
from console.maintenance.lens import judged, marked
from console.maintenance.plan import verdict
from console.maintenance.views import frame, hashes_now
from console.overview.sampler import sampler
from console.roles import Role


@allow(Role.OPERATOR)
def hashes(request: HttpRequest) -> HttpResponse:
    """HashKV over all members at the newest revision every one of them has."""
    found, revision = hashes_now(request.gateway, sampler.snapshot(request.cluster).health)
    level, sentence = verdict(found)
    context = frame("Hash comparison") | {
        "hashes": found,
        "revision": revision,
        "level": level,
        "sentence": sentence,
        "command": etcdctl_for(request.cluster).line("endpoint", "hashkv", "--cluster"),
    }
    return render(request, "maintenance/hashes.html", context)


@allow(Role.OPERATOR)
def lens(request: HttpRequest) -> HttpResponse:
    """`key`: byte text; without it the page asks for one."""
    text = request.GET.get("key", "")
    context: dict[str, Any] = frame("Consistency lens") | {"key_text": text}
    try:
        key = bytes_of(text)
    except BadAddress as error:
        context["bad_key"] = str(error)
        return render(request, "maintenance/lens.html", context, status=400)
    if not key:
        return render(request, "maintenance/lens.html", context)
    members = [row.member for row in sampler.snapshot(request.cluster).health.rows]
    readings, pinned_at = look(request.gateway, members, key)
    rows = marked(readings)
    level, sentence = judged(rows, pinned_at)
    context |= {
        "key": key,
        "rows": rows,
        "level": level,
        "sentence": sentence,
        "pinned_at": pinned_at,
        "command": _commands(request, key, [m.reached_at for m in members if m.reached_at]),
    }
    return render(request, "maintenance/lens.html", context)


def _commands(request: HttpRequest, key: bytes, addresses: list[str]) -> str:
    return "\n".join(
        etcdctl_for(request.cluster).at(address).get(key, consistency=level)
        for address in addresses
        for level in ("l", "s")
    )
