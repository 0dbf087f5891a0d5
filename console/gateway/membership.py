"""Changes of who is in the cluster (spec/cluster.md §3). Each takes a `Writer`.

Such a write goes to one member and is never sent again by itself: a second MemberAdd would be a
second member.
"""

from __future__ import annotations

from collections.abc import Sequence

from console.gateway.errors import domain_error
from console.gateway.writer import WRITE_SECONDS, Writer
from console.overview.health import Member
from kvserver.client import CallFailed, Endpoint
from kvserver.proto import rpc_pb2

PROMOTE_SECONDS = 15.0
MOVE_SECONDS = 15.0


def add(writer: Writer, peer_urls: Sequence[str], *, is_learner: bool) -> Member:
    """The new member, which has an id and no name before it has started."""
    request = rpc_pb2.MemberAddRequest(peerURLs=peer_urls, isLearner=is_learner)
    added = _write(writer, lambda stubs: stubs.cluster.MemberAdd, request).member
    return Member(
        id=added.ID,
        name=added.name,
        is_learner=added.isLearner,
        endpoints=(),
        status=None,
        peer_urls=tuple(added.peerURLs),
    )


def remove(writer: Writer, member: Member, via: Member | None) -> None:
    """Asked of `via`: who removes itself may stop before it has answered."""
    request = rpc_pb2.MemberRemoveRequest(ID=member.id)
    if via is None:
        _write(writer, lambda stubs: stubs.cluster.MemberRemove, request)
    else:
        _write_to(writer, via, lambda stubs: stubs.cluster.MemberRemove, request, WRITE_SECONDS)


def update(writer: Writer, member: Member, peer_urls: Sequence[str]) -> None:
    request = rpc_pb2.MemberUpdateRequest(ID=member.id, peerURLs=peer_urls)
    _write(writer, lambda stubs: stubs.cluster.MemberUpdate, request)


def promote(writer: Writer, member: Member) -> None:
    request = rpc_pb2.MemberPromoteRequest(ID=member.id)
    _write(writer, lambda stubs: stubs.cluster.MemberPromote, request, PROMOTE_SECONDS)


def move_leader(writer: Writer, leader: Member, target: Member) -> None:
    """Only the leader can hand over (spec/maintenance.md L1)."""
    request = rpc_pb2.MoveLeaderRequest(targetID=target.id)
    _write_to(writer, leader, lambda stubs: stubs.maintenance.MoveLeader, request, MOVE_SECONDS)


def _write(writer, pick, request, seconds=WRITE_SECONDS):  # type: ignore[no-untyped-def]
    try:
        return writer._client.write(pick, request, seconds)
    except CallFailed as error:
        raise domain_error(error) from None


def _write_to(writer, member, pick, request, seconds):  # type: ignore[no-untyped-def]
    try:
        return writer._client.write_to(Endpoint.parse(member.reached_at), pick, request, seconds)
    except CallFailed as error:
        raise domain_error(error) from None
