"""One key from every member: what each would tell a client that asks it and nobody else."""

from __future__ import annotations

from collections.abc import Sequence

from console.gateway import wire
from console.gateway.reader import Reader
from console.maintenance.lens import Reading, Said
from console.overview.health import Member
from kvserver.client import Answer, Endpoint
from kvserver.proto import rpc_pb2

LENS_SECONDS_MAX = 2.0
"""A read without a quorum would wait for seven seconds (spec/kv.md E1)."""


def look(reader: Reader, members: Sequence[Member], key: bytes) -> tuple[list[Reading], int]:
    """A row for every member, in their order, and the revision all were compared at."""
    asked = [Endpoint.parse(member.reached_at) for member in members if member.reached_at]
    linearizable = _ask(reader, asked, rpc_pb2.RangeRequest(key=key))
    serializable = _ask(reader, asked, rpc_pb2.RangeRequest(key=key, serializable=True))
    at = min((said.revision for said in serializable if said.is_answer), default=0)
    pinned = _ask(reader, asked, rpc_pb2.RangeRequest(key=key, serializable=True, revision=at))
    told = zip(linearizable, serializable, pinned, strict=True)
    readings = []
    for member in members:
        if member.reached_at:
            readings.append(Reading(member.label, *next(told)))
        else:
            silent = Said(failure=member.failure or "no answer")
            readings.append(Reading(member.label, silent, silent, silent))
    return readings, at


def _ask(reader: Reader, endpoints: list[Endpoint], request: rpc_pb2.RangeRequest) -> list[Said]:
    answers = reader._client.fan_out(
        endpoints, lambda stubs: stubs.kv.Range, request, LENS_SECONDS_MAX
    )
    return [_said(answer) for answer in answers]


def _said(answer: Answer) -> Said:
    if answer.response is None:
        assert answer.failure is not None
        return Said(failure=f"{answer.failure.code.name}: {answer.failure.message}")
    kvs = answer.response.kvs
    key = wire.key(kvs[0], has_value=True) if kvs else None
    return Said(answer.response.header.revision, key)
