"""The Election service (spec/concurrency.md §3)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from google.protobuf.message import Message

from kvserver import errors
from kvserver.proto import election_pb2, kv_pb2, rpc_pb2
from kvserver.services.concurrency import (
    Queues,
    Ticket,
    Work,
    created_at,
    deletion,
    first_of,
    method,
    participant_key,
    put,
    queue_prefix,
    read,
    unknown,
)
from kvserver.services.gate import Gate, parse
from kvserver.services.leader_guard import LeaderGuard
from kvserver.transport import Call, Method, Stream

PREFIX = "/v3electionpb.Election/"
MISSING_LEADER = '"leader" field must be provided'
NO_LEADER = "election: no leader"
NOT_LEADER = "election: not leader"

_NO_DELETES = rpc_pb2.WatchCreateRequest.NODELETE


class ElectionService:
    """Handlers of `v3electionpb.Election`."""

    def __init__(self, queues: Queues, gate: Gate, guard: LeaderGuard) -> None:
        self._queues = queues
        self._client = queues.client
        self._gate = gate
        self._guard = guard

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        unary: dict[str, tuple[type[Message], Work]] = {
            "Campaign": (election_pb2.CampaignRequest, self.campaign),
            "Proclaim": (election_pb2.ProclaimRequest, self.proclaim),
            "Leader": (election_pb2.LeaderRequest, self.leader),
            "Resign": (election_pb2.ResignRequest, self.resign),
        }
        for name, (message, work) in unary.items():
            yield method(PREFIX + name, self._gate, message, work, request_bytes_max)
        yield Method(PREFIX + "Observe", "stream", self.observe, request_bytes_max)

    async def campaign(
        self, call: Call, request: election_pb2.CampaignRequest
    ) -> election_pb2.CampaignResponse:
        """The reply's header is that of the first transaction, however long the wait (E1)."""
        lease_id = await self._queues.session(call, request.lease)
        prefix = queue_prefix(request.name)
        key = participant_key(request.name, lease_id)
        taken = await self._queues.enter(
            call,
            Ticket(prefix, key, 0),
            rpc_pb2.TxnRequest(
                compare=[created_at(key, 0)],
                success=[put(key, request.value, lease_id)],
                failure=[read(rpc_pb2.RangeRequest(key=key))],
            ),
        )
        revision = taken.header.revision
        if not taken.succeeded:
            existing = taken.responses[0].response_range.kvs[0]
            revision = existing.create_revision
        leader = election_pb2.LeaderKey(name=request.name, key=key, rev=revision, lease=lease_id)
        if not taken.succeeded and existing.value != request.value:
            await self._proclaim(call, leader, request.value)
        await self._queues.wait(call, Ticket(prefix, key, revision))
        return election_pb2.CampaignResponse(header=taken.header, leader=leader)

    async def proclaim(
        self, call: Call, request: election_pb2.ProclaimRequest
    ) -> election_pb2.ProclaimResponse:
        leader = await self._leader_of(call, request)
        header = await self._proclaim(call, leader, request.value)
        return election_pb2.ProclaimResponse(header=header)

    async def _proclaim(
        self, call: Call, leader: election_pb2.LeaderKey, value: bytes
    ) -> rpc_pb2.ResponseHeader:
        """Any participant may, whether it leads yet or not (E2)."""
        request = rpc_pb2.TxnRequest(
            compare=[created_at(leader.key, leader.rev)],
            success=[put(leader.key, value, leader.lease)],
        )
        response = await self._client.txn(call, request)
        if not response.succeeded:
            raise errors.RequestError(NOT_LEADER)
        return response.header

    async def leader(
        self, call: Call, request: election_pb2.LeaderRequest
    ) -> election_pb2.LeaderResponse:
        response = await self._client.range_(call, first_of(queue_prefix(request.name)))
        if not response.kvs:
            raise errors.RequestError(NO_LEADER)
        return election_pb2.LeaderResponse(header=response.header, kv=response.kvs[0])

    async def resign(
        self, call: Call, request: election_pb2.ResignRequest
    ) -> election_pb2.ResignResponse:
        """Resigning from what one does not hold changes nothing (E4)."""
        leader = await self._leader_of(call, request)
        ticket = Ticket(b"", leader.key, leader.rev)
        response = await self._client.txn(call, deletion(ticket))
        return election_pb2.ResignResponse(header=response.header)

    async def _leader_of(
        self, call: Call, request: election_pb2.ProclaimRequest | election_pb2.ResignRequest
    ) -> election_pb2.LeaderKey:
        """What the caller holds, its lease kept alive once or granted (B4)."""
        if not request.HasField("leader"):
            raise errors.RequestError(MISSING_LEADER)
        leader = request.leader
        leader.lease = await self._queues.session(call, leader.lease)
        return leader

    # -- observing (E5)
    # A caller who may not read the election is told so; etcd ends its stream without a word.

    async def observe(self, stream: Stream) -> None:
        self._gate.open_stream(stream)
        if stream.metadata.get("hasleader") == "true":
            task = asyncio.current_task()
            assert task is not None
            self._guard.add(stream, lambda: _cancel(task))
        try:
            async for body in stream:
                request = parse(election_pb2.LeaderRequest, body)
                await self._observe(stream, queue_prefix(request.name))
        except errors.RequestError as error:
            raise unknown(error) from None
        finally:
            self._guard.discard(stream)

    async def _observe(self, stream: Stream, prefix: bytes) -> None:
        """Leaders one after the other, until the caller goes. Those who led only while nobody
        looked are skipped; that there is no leader is never said."""
        while True:
            response = await self._client.range_(stream, first_of(prefix))
            header = response.header
            if response.kvs:
                kv = response.kvs[0]
            else:
                found = await self._first_put(stream, prefix, header.revision)
                if found is None:
                    continue
                kv = found
                header.revision = kv.mod_revision
            await _show(stream, header, kv)
            await self._follow(stream, kv.key, header.revision)

    async def _first_put(
        self, stream: Stream, prefix: bytes, revision: int
    ) -> kv_pb2.KeyValue | None:
        request = rpc_pb2.WatchCreateRequest(
            key=prefix,
            range_end=first_of(prefix).range_end,
            start_revision=revision + 1,
            filters=[_NO_DELETES],
        )
        watch = self._client.watch(stream, request)
        try:
            async for response in watch:
                return response.events[0].kv
        finally:
            watch.close()
        return None

    async def _follow(self, stream: Stream, key: bytes, revision: int) -> None:
        """Each later value of this leader, until its key is deleted."""
        request = rpc_pb2.WatchCreateRequest(key=key, start_revision=revision + 1)
        watch = self._client.watch(stream, request)
        try:
            async for response in watch:
                for event in response.events:
                    if event.type == kv_pb2.Event.DELETE:
                        return
                    await _show(stream, response.header, event.kv)
        finally:
            watch.close()


async def _show(stream: Stream, header: rpc_pb2.ResponseHeader, kv: kv_pb2.KeyValue) -> None:
    stream.send(election_pb2.LeaderResponse(header=header, kv=kv).SerializeToString())
    if not stream.writable:
        await stream.drain()


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
