"""Wire messages become records. Pure functions; nobody outside the gateway calls them."""

from __future__ import annotations

from collections.abc import Iterable

from console.gateway.records import Event, Key
from console.overview.health import Member, MemberStatus
from kvserver.client import Answer, CallFailed, Endpoint
from kvserver.errors import Code
from kvserver.proto import kv_pb2, rpc_pb2

STATUS_SECONDS = 2.0


def key(kv: kv_pb2.KeyValue, *, has_value: bool) -> Key:
    return Key(
        key=kv.key,
        value=kv.value if has_value else None,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


def event(one: kv_pb2.Event) -> Event:
    """On the wire a deleted key has nothing but its name and the revision (spec/watch.md V2)."""
    is_delete = one.type == kv_pb2.Event.DELETE
    return Event(
        revision=one.kv.mod_revision,
        key=one.kv.key,
        is_delete=is_delete,
        now=None if is_delete else key(one.kv, has_value=True),
        prev=key(one.prev_kv, has_value=True) if one.HasField("prev_kv") else None,
    )


def endpoints_of(urls: Iterable[str]) -> list[Endpoint]:
    """The addresses among advertised URLs that can be dialled."""
    endpoints = []
    for url in urls:
        try:
            endpoints.append(Endpoint.parse(url))
        except ValueError:
            continue
    return endpoints


def is_of(answer: Answer, cluster_id: int) -> bool:
    """An advertised address such as http://localhost:2379 may lead to another cluster here."""
    return answer.response is not None and answer.response.header.cluster_id == cluster_id


def member_of(member: rpc_pb2.Member, ours: list[Answer], answers: list[Answer]) -> Member:
    said = [answer for answer in ours if answer.response.header.member_id == member.ID]
    best = min(said, key=lambda answer: answer.round_trip_seconds, default=None)
    tried = set(endpoints_of(member.clientURLs))
    failure = next((a.failure for a in answers if a.failure and a.endpoint in tried), None)
    return Member(
        id=member.ID,
        name=member.name,
        is_learner=member.isLearner,
        endpoints=tuple(member.clientURLs),
        status=status_of(best.response) if best else None,
        failure=why_silent(failure) if failure and not best else None,
        round_trip_seconds=best.round_trip_seconds if best else None,
        reached_at=str(best.endpoint) if best else "",
        peer_urls=tuple(member.peerURLs),
    )


def why_silent(failure: CallFailed) -> str:
    """A failed Status in a few words: gRPC wraps the cause in the names of what it went through."""
    if failure.code is Code.DEADLINE_EXCEEDED:
        return f"no answer within {STATUS_SECONDS:.0f} s"
    cause = failure.message.rsplit(": ", 1)[-1].partition(" (")[0]
    if failure.code is Code.UNAVAILABLE and cause:
        return cause[:1].lower() + cause[1:80]
    return f"{failure.code.name}: {failure.message}"[:120]


def nameless_member(answer: Answer) -> Member:
    """An endpoint standing for the member behind it, when the member list cannot be had."""
    response, failure = answer.response, answer.failure
    return Member(
        id=response.header.member_id if response else 0,
        name="",
        is_learner=bool(response and response.isLearner),
        endpoints=(str(answer.endpoint),),
        status=status_of(response) if response else None,
        failure=why_silent(failure) if failure else None,
        round_trip_seconds=answer.round_trip_seconds if response else None,
        reached_at=str(answer.endpoint) if response else "",
    )


def status_of(response: rpc_pb2.StatusResponse) -> MemberStatus:
    return MemberStatus(
        version=response.version,
        db_size_bytes=response.dbSize,
        db_in_use_bytes=response.dbSizeInUse,
        db_quota_bytes=response.dbSizeQuota,
        leader_id=response.leader,
        raft_term=response.raftTerm,
        raft_index=response.raftIndex,
        applied_index=response.raftAppliedIndex,
        revision=response.header.revision,
        is_learner=response.isLearner,
        errors=tuple(response.errors),
    )
