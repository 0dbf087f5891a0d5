"""Calls that keep a cluster in shape: defragment, compact, disarm, compare hashes.

What changes something takes a `Writer`, so that a page that is only opened cannot ask for it
(console.md §3 trap 12). Calls about one member go to that member alone, and the member that
answers has to be the one meant (trap 9).
"""

from __future__ import annotations

from collections.abc import Sequence

from console.gateway.errors import ClusterError, domain_error
from console.gateway.reader import Reader
from console.gateway.wire import STATUS_SECONDS, status_of
from console.gateway.writer import WRITE_SECONDS, Writer
from console.maintenance.plan import MemberHash, Sizes
from console.overview.health import Member, MemberStatus
from kvserver.client import CallFailed, Endpoint
from kvserver.proto import rpc_pb2

DEFRAGMENT_SECONDS_MAX = 3600.0
"""A member rewrites its whole database before it answers."""

COMPACT_SECONDS_MAX = 300.0
"""A physical compaction answers when the last record is gone."""

HASH_SECONDS_MAX = 60.0


def defragment(writer: Writer, member: Member) -> Sizes:
    """Rewrite one member's database; its sizes afterwards."""
    endpoint = Endpoint.parse(member.reached_at)
    check_is(writer, endpoint, member)
    try:
        writer._client.write_to(
            endpoint,
            lambda stubs: stubs.maintenance.Defragment,
            rpc_pb2.DefragmentRequest(),
            DEFRAGMENT_SECONDS_MAX,
        )
    except CallFailed as error:
        raise domain_error(error) from None
    return Sizes.of(check_is(writer, endpoint, member))


def check_is(reader: Reader, endpoint: Endpoint, member: Member) -> MemberStatus:
    """Its Status, if it is the member meant: an address may lead elsewhere by now."""
    [answer] = reader._client.fan_out(
        [endpoint],
        lambda stubs: stubs.maintenance.Status,
        rpc_pb2.StatusRequest(),
        STATUS_SECONDS * 2,
    )
    if answer.response is None:
        assert answer.failure is not None
        raise domain_error(answer.failure)
    if answer.response.header.member_id != member.id:
        found = f"member {answer.response.header.member_id:x} answers, not {member.hex_id}"
        raise ClusterError("FAILED_PRECONDITION", found, str(endpoint))
    return status_of(answer.response)


def compact(writer: Writer, revision: int, *, is_physical: bool) -> None:
    request = rpc_pb2.CompactionRequest(revision=revision, physical=is_physical)
    seconds = COMPACT_SECONDS_MAX if is_physical else WRITE_SECONDS
    try:
        writer._client.write(lambda stubs: stubs.kv.Compact, request, seconds)
    except CallFailed as error:
        raise domain_error(error) from None


def disarm(writer: Writer, kind: str, member_id: int) -> bool:
    """Take back one alarm; False when it was not raised (spec/maintenance.md A4)."""
    request = rpc_pb2.AlarmRequest(
        action=rpc_pb2.AlarmRequest.DEACTIVATE,
        memberID=member_id,
        alarm=rpc_pb2.AlarmType.Value(kind),
    )
    try:
        answer = writer._client.write(lambda s: s.maintenance.Alarm, request, WRITE_SECONDS)
    except CallFailed as error:
        raise domain_error(error) from None
    return bool(answer.alarms)


def hashes(reader: Reader, members: Sequence[Member], revision: int) -> list[MemberHash]:
    """HashKV of every member at one revision, asked at once."""
    reached = [member for member in members if member.reached_at]
    answers = reader._client.fan_out(
        [Endpoint.parse(member.reached_at) for member in reached],
        lambda stubs: stubs.maintenance.HashKV,
        rpc_pb2.HashKVRequest(revision=revision),
        HASH_SECONDS_MAX,
    )
    told = {}
    for member, answer in zip(reached, answers, strict=True):
        if answer.response is not None:
            response = answer.response
            told[member.id] = MemberHash(member.label, response.hash, response.compact_revision)
        else:
            why = f"{answer.failure.code.name}: {answer.failure.message}" if answer.failure else ""
            told[member.id] = MemberHash(member.label, None, 0, why)
    silent = [m for m in members if not m.reached_at]
    return [told[m.id] for m in reached] + [
        MemberHash(m.label, None, 0, m.failure or "no answer") for m in silent
    ]
