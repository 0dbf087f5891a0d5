"""Search over a prefix: a visible scan in steps, at one revision."""

from __future__ import annotations

import time
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from console.access import allow
from console.audit.record import etcdctl_for
from console.errors import cluster_error
from console.gateway import ClusterError, Part
from console.keys.addresses import BadAddress, bytes_of, list_url, number_of, query_url
from console.keys.byte_text import show
from console.keys.lens import PLAIN, Lens
from console.keys.paging import KeyRange, prefix_range
from console.keys.search import Needle, Step, scan
from console.keys.tree import base_of
from console.keys.views_list import lens_context
from console.keys.views_tree import tree_url
from console.roles import Role

STEP_SECONDS_MAX = 3.0


@allow(Role.VIEWER)
def search(request: HttpRequest) -> HttpResponse:
    query = request.GET
    frame: dict[str, Any] = {
        "title": "Search keys",
        "rail_current": "keys",
        "crumbs": [("Keys", "keys"), ("Search", None)],
        "prefix_text": query.get("prefix", ""),
        "needle_text": query.get("q", ""),
        "in_values": query.get("in") == "values",
        "ignores_case": bool(query.get("case")),
    }
    try:
        lens = Lens.from_query(query)
        prefix, text = bytes_of(frame["prefix_text"]), bytes_of(frame["needle_text"])
        last_key = bytes_of(query["after"]) if query.get("after") else None
        pin, before, found = (number_of(query.get(n, "")) for n in ("pin", "scanned", "found"))
    except BadAddress as error:
        context = {**frame, **lens_context(PLAIN), "bad_search": str(error)}
        return render(request, "keys/search.html", context, status=400)
    keys = prefix_range(prefix)
    folder = base_of(prefix, lens.separator)
    frame |= lens_context(lens) | {
        "prefix": prefix,
        "range": keys,
        "found_before": found,
        "folder": folder,
        "tree_url": tree_url(request.cluster, lens, folder),
    }
    if not text:
        return render(request, "keys/search.html", frame)
    needle = Needle(text, frame["ignores_case"], frame["in_values"])
    try:
        step = _step(request, lens, keys, needle, last_key, lens.revision or pin)
    except ClusterError as error:
        tried = f"Searching the keys {show(prefix)} after {before} of them"
        more = {
            "newest_url": list_url(request.cluster, prefix, lens=lens.at(0)),
            **{name: frame[name] for name in ("rail_current", "crumbs")},
        }
        return cluster_error(request, error, tried, **more)
    context = frame | _context(request, lens, step, before, found)
    return render(request, "keys/search.html", context)


def _step(
    request: HttpRequest,
    lens: Lens,
    keys: KeyRange,
    needle: Needle,
    last_key: bytes | None,
    revision: int,
) -> Step:
    reader = request.gateway.reading(is_serializable=lens.is_serializable)
    deadline = time.monotonic() + STEP_SECONDS_MAX

    def ask(part: KeyRange, limit: int, at: int) -> Part:
        return reader.part(part, limit, at, has_values=needle.in_values)

    return scan(
        ask,
        keys,
        needle,
        last_key=last_key,
        revision=revision,
        is_spent=lambda: time.monotonic() > deadline,
    )


def _context(
    request: HttpRequest, lens: Lens, step: Step, before: int, found: int
) -> dict[str, Any]:
    cluster = request.cluster
    scanned, total = before + step.scanned, before + step.left
    kept = {n: request.GET[n] for n in ("prefix", "q", "in", "case") if request.GET.get(n)}
    here = reverse("key_search", args=[cluster.slug])
    following = None
    if step.last_key is not None:
        pin = {} if lens.revision else {"pin": step.revision}
        following = query_url(
            here,
            **kept,
            **lens.params(),
            **pin,
            after=show(step.last_key),
            scanned=scanned,
            found=found + len(step.matches),
        )
    return {
        "step": step,
        "scanned": scanned,
        "total": total,
        "found": found + len(step.matches),
        "is_continued": before > 0,
        "start_url": query_url(here, **kept, **lens.params()),
        "next_url": following,
        "command": etcdctl_for(cluster).list(
            bytes_of(kept.get("prefix", "")),
            0,
            step.revision,
            consistency=lens.consistency,
        ),
    }
