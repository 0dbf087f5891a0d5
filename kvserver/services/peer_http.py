"""Plain HTTP on the peer port of a member: /version and /members (spec/wire-api.md §6.4)."""

from __future__ import annotations

import json
from typing import Any

from kvserver.membership.types import Member
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.http import TEXT, HttpApp
from kvserver.transport import HttpRequest, HttpResponse


class PeerHttpApp:
    """Routes requests of the peer port."""

    def __init__(self, member: MemberLoop, cluster_id: int, client_app: HttpApp) -> None:
        self._member = member
        self._cluster_id = cluster_id
        self._client_app = client_app

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/version":
            return await self._client_app(request)
        if request.path != "/members":
            return HttpResponse(404, TEXT, b"404 page not found\n")
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(405, {**TEXT, "Allow": "GET"}, b"Method Not Allowed\n")
        members = [_fields(member) for member in self._member.membership.members()]
        body = json.dumps(members, separators=(",", ":")).encode() + b"\n"
        headers = {
            "Content-Type": "application/json",
            "X-Etcd-Cluster-ID": f"{self._cluster_id:x}",
        }
        return HttpResponse(200, headers, body)


def _fields(member: Member) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": member.id, "peerURLs": list(member.peer_urls)}
    if member.is_learner:
        fields["isLearner"] = True
    if member.name:
        fields["name"] = member.name
    if member.client_urls:
        fields["clientURLs"] = list(member.client_urls)
    return fields
