"""Renewals and remaining times of leases, asked of the leader over its peer port
(spec/peer.md §5, spec/lease.md K6, T1). Owner: the loop."""

from __future__ import annotations

import asyncio

from kvserver import errors
from kvserver.errors import KeydeckError
from kvserver.limits import LEADER_ASK_SECONDS
from kvserver.peers.client import Answer
from kvserver.peers.network import PeerNetwork
from kvserver.proto import lease_pb2, rpc_pb2
from kvserver.runtime.member_loop import MemberLoop

PROTOBUF = {"Content-Type": "application/protobuf"}


class ForwardedLeases:
    """The leader's lessor, for a member that does not lead."""

    def __init__(self, member: MemberLoop, network: PeerNetwork) -> None:
        self._member = member
        self._network = network

    async def renew(self, lease_id: int) -> int | None:
        request = rpc_pb2.LeaseKeepAliveRequest(ID=lease_id)
        answer = await self._ask("/leases", request.SerializeToString())
        if answer is None:
            return None
        if answer.status == 404:
            return 0
        return int(rpc_pb2.LeaseKeepAliveResponse.FromString(answer.body).TTL)

    async def time_to_live(
        self, request: rpc_pb2.LeaseTimeToLiveRequest
    ) -> rpc_pb2.LeaseTimeToLiveResponse | None:
        wrapped = lease_pb2.LeaseInternalRequest(LeaseTimeToLiveRequest=request)
        answer = await self._ask("/leases/internal", wrapped.SerializeToString())
        if answer is None:
            return None
        if answer.status == 404:
            return rpc_pb2.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
        found = lease_pb2.LeaseInternalResponse.FromString(answer.body)
        return found.LeaseTimeToLiveResponse

    async def _ask(self, path: str, body: bytes) -> Answer | None:
        """The leader's word, 200 or 404; None when this member leads now. Raises `NoLeader` or
        `Timeout`."""
        member = self._member
        end = member.loop.time() + member.request_timeout_seconds
        while True:
            if member.is_leader:
                return None
            leader = member.membership.get(member.leader)
            for url in leader.peer_urls if leader else ():
                try:
                    answer = await self._network.client.request(
                        url, "POST", path, PROTOBUF, body, is_kept=True
                    )
                except KeydeckError:
                    continue
                if answer.status in (200, 404):
                    return answer
            if member.loop.time() > end:
                raise errors.Timeout if member.leader else errors.NoLeader
            await asyncio.sleep(LEADER_ASK_SECONDS)
