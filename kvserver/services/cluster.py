"""The Cluster service: the member list (spec/cluster.md §3.5).

Membership changes come with the cluster; their methods are not registered yet and answer
UNIMPLEMENTED.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvserver.proto import rpc_pb2
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.gate import Gate, parse
from kvserver.transport import Call, Method

PREFIX = "/etcdserverpb.Cluster/"


class ClusterService:
    """Handlers of `etcdserverpb.Cluster`."""

    def __init__(self, member: MemberLoop, gate: Gate) -> None:
        self._member = member
        self._gate = gate

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        yield Method(
            PREFIX + "MemberList", "unary", self._gate.unary(self.member_list), request_bytes_max
        )

    def member_list(self, call: Call, body: bytes) -> bytes | None:
        request = parse(rpc_pb2.MemberListRequest, body)
        if request.linearizable and not self._member.can_read_now():
            return self._member.read(call, self._list)
        return self._list()

    def _list(self) -> bytes:
        response = rpc_pb2.MemberListResponse()
        for member in self._member.membership.members():
            response.members.add(
                ID=member.id,
                name=member.name,
                peerURLs=member.peer_urls,
                clientURLs=member.client_urls,
                isLearner=member.is_learner,
            )
        return self._member.header(0) + response.SerializeToString()
