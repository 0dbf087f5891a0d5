"""One key: what it holds, at the newest or at an older revision, and its bytes as a download."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import etcdctl_for
from console.errors import cluster_error, plain
from console.gateway import ClusterError, Key, LeaseTime
from console.keys.addresses import (
    BadAddress,
    key_of,
    key_url,
    path_parts,
)
from console.keys.byte_text import show
from console.keys.decoders import Decoder, editable_text, fitting, why_not_editable
from console.keys.lens import PLAIN, Lens
from console.keys.tree import base_of
from console.keys.views_list import lens_context
from console.keys.views_tree import tree_url
from console.roles import Role
from console.users.own import write_limits
from console.users.spans import span_of


@allow(Role.VIEWER)
def key(request: HttpRequest) -> HttpResponse:
    try:
        name, lens = key_of(request), Lens.from_query(request.GET)
    except BadAddress as error:
        return plain(request, "This address names no key", str(error), 400)
    frame = key_frame(name, lens)
    reader = request.gateway.reading(is_serializable=lens.is_serializable)
    try:
        found, newest = reader.key(name, lens.revision)
    except ClusterError as error:
        more = {**frame, "newest_url": key_url(request.cluster, name)}
        return cluster_error(request, error, f"Reading the key {show(name)}", **more)
    frame |= {
        "revision": lens.revision,
        "newest": newest,
        "newest_url": key_url(request.cluster, name, **lens.at(0).params()),
        "tree_url": tree_url(request.cluster, lens, base_of(name, lens.separator), name),
        "command": etcdctl_for(request.cluster).get(
            name, lens.revision, consistency=lens.consistency
        ),
    }
    if request.role >= Role.EDITOR and not request.cluster.is_read_only:
        frame |= write_limits(request.gateway, span_of(name, b""))
    if found is None:
        return render(request, "keys/absent.html", frame, status=404)
    return render(request, "keys/key.html", {**frame, **_value_context(request, found)})


def key_frame(name: bytes, lens: Lens = PLAIN) -> dict[str, Any]:
    """What every page about this key has in common."""
    return lens_context(lens) | {
        "title": show(name),
        "rail_current": "keys",
        "crumbs": [("Keys", "keys"), (show(name), None)],
        "key": name,
        "parts": path_parts(name, lens.separator),
        "folder": base_of(name, lens.separator),
    }


def _value_context(request: HttpRequest, found: Key) -> dict[str, Any]:
    assert found.value is not None
    decoders = fitting(found.value)
    chosen = _chosen(decoders, request.GET.get("as", ""))
    editable = editable_text(found.value) is not None
    return {
        "found": found,
        "lease": lease_of(request, found),
        "decoders": decoders,
        "decoder": chosen,
        "decoded": chosen.decode(found.value),
        "why_not_editable": None if editable else why_not_editable(found.value),
    }


def _chosen(decoders: list[Decoder], name: str) -> Decoder:
    return next((decoder for decoder in decoders if decoder.name == name), decoders[0])


def lease_of(request: HttpRequest, found: Key) -> LeaseTime | None:
    """The lease's time to live, when it has one and it may be asked for."""
    if not found.lease:
        return None
    try:
        return request.gateway.lease_time(found.lease)  # type: ignore[no-any-return]
    except ClusterError:
        return None


@allow(Role.VIEWER)
def raw(request: HttpRequest) -> HttpResponse:
    """The value's bytes as a download: hostile until proven otherwise, so never shown inline."""
    try:
        name, lens = key_of(request), Lens.from_query(request.GET)
    except BadAddress as error:
        return plain(request, "This address names no key", str(error), 400)
    reader = request.gateway.reading(is_serializable=lens.is_serializable)
    found, _ = reader.key(name, lens.revision)
    if found is None:
        return plain(request, "There is no such key", show(name), 404)
    response = HttpResponse(found.value, content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{file_name(name)}"'
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def file_name(key: bytes) -> str:
    """The key's last piece as a harmless file name."""
    last = key.rstrip(b"/").rsplit(b"/", 1)[-1]
    text = "".join(chr(b) if (chr(b).isalnum() and b < 128) or b in b"._-" else "_" for b in last)
    return text.strip("._")[:80] or "value"
