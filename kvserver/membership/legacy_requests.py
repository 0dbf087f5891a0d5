"""Attributes and the cluster version as releases up to 3.5 propose them: a v2 PUT that is the whole
entry (spec/raft-wire.md §5). Members of 3.4 know no other form, and those of etcd 3.7 do not know
this one; ours apply both."""

from __future__ import annotations

import json
from collections.abc import Iterable

from kvserver.membership.ids import format_id
from kvserver.proto import legacy_pb2

LEGACY_RELEASE = "3.4."


def needs_legacy(versions: Iterable[str | None]) -> bool:
    """Whether one of these server versions would stop at the newer form (W6)."""
    return any(version is not None and version.startswith(LEGACY_RELEASE) for version in versions)


def put_attributes(number: int, name: str, client_urls: Iterable[str]) -> legacy_pb2.Request:
    fields = {"name": name, "clientURLs": list(client_urls)}
    value = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return _put(f"/0/members/{format_id(number)}/attributes", value)


def put_version(version: str) -> legacy_pb2.Request:
    return _put("/0/version", version)


def _put(path: str, value: str) -> legacy_pb2.Request:
    """Every field but two is written, zeros too, as etcd writes them."""
    request = legacy_pb2.Request(ID=0, Method="PUT", Path=path, Val=value)
    for field in request.DESCRIPTOR.fields:
        if field.name not in ("PrevExist", "Refresh") and not request.HasField(field.name):
            setattr(request, field.name, field.default_value)
    return request
