"""Plain HTTP on the peer port of a member: raft, /version and /members (spec/peer.md §5)."""

from __future__ import annotations

from collections.abc import Callable

from kvserver.membership.types import Member
from kvserver.peers.server import RaftHttp
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.http import TEXT, HttpApp
from kvserver.services.peer_side import PeerSide, encode_members
from kvserver.transport import HttpRequest, HttpResponse

JSON = {"Content-Type": "application/json"}


class PeerHttpApp:
    """Routes requests of the peer port."""

    def __init__(
        self,
        member: MemberLoop,
        cluster_id: int,
        client_app: HttpApp,
        raft: RaftHttp,
        members: Callable[[], list[Member]],
        side: PeerSide,
    ) -> None:
        self._member = member
        self._cluster_id = cluster_id
        self._client_app = client_app
        self._raft = raft
        self._side = side
        self._members = members
        """Answered before there is a leader, or nobody could join."""

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        path = request.path
        if path.startswith("/raft"):
            answer = await self._raft(request)
            if answer is not None:
                return answer
        if path == "/version":
            return await self._client_app(request)
        if path == "/members":
            return self._list(request)
        if path.startswith("/members/promote/"):
            return await self._side.promote(request)
        handler = self._side.routes.get(path)
        if handler is not None:
            return await handler(request)
        return HttpResponse(404, TEXT, b"404 page not found\n")

    def _list(self, request: HttpRequest) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(405, {**TEXT, "Allow": "GET"}, b"Method Not Allowed\n")
        headers = {**JSON, "X-Etcd-Cluster-ID": f"{self._cluster_id:x}"}
        return HttpResponse(200, headers, encode_members(self._members()))
