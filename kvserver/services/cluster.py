"""The Cluster service: the member list and its changes (spec/cluster.md §3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from google.protobuf.message import Message

from kvserver import errors
from kvserver.membership.types import Member
from kvserver.proto import rpc_pb2
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.gate import Gate, parse
from kvserver.services.member_changes import MemberChanges
from kvserver.transport import Call, Method

PREFIX = "/etcdserverpb.Cluster/"


class ClusterService:
    """Handlers of `etcdserverpb.Cluster`."""

    def __init__(self, member: MemberLoop, gate: Gate, changes: MemberChanges) -> None:
        self._member = member
        self._gate = gate
        self._changes = changes
        self._tasks: set[asyncio.Task[None]] = set()

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        unary = {
            "MemberList": self.member_list,
            "MemberAdd": self.member_add,
            "MemberRemove": self.member_remove,
            "MemberUpdate": self.member_update,
            "MemberPromote": self.member_promote,
        }
        for name, handler in unary.items():
            yield Method(PREFIX + name, "unary", self._gate.unary(handler), request_bytes_max)

    # -- the list

    def member_list(self, call: Call, body: bytes) -> bytes | None:
        request = parse(rpc_pb2.MemberListRequest, body)
        if request.linearizable and not self._member.can_read_now():
            return self._member.read(call, self._list)
        return self._list()

    def _list(self) -> bytes:
        return self._reply(rpc_pb2.MemberListResponse(members=self._shown()))

    def _shown(self) -> list[rpc_pb2.Member]:
        return [_shown(member) for member in self._member.membership.members()]

    # -- changes: answered once they are applied here

    def member_add(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.MemberAddRequest, body)

        async def change() -> bytes:
            added = await self._changes.add(request.peerURLs, request.isLearner)
            return self._reply(
                rpc_pb2.MemberAddResponse(member=_shown(added), members=self._shown())
            )

        self._run(call, change)

    def member_remove(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.MemberRemoveRequest, body)

        async def change() -> bytes:
            await self._changes.remove(request.ID)
            return self._reply(rpc_pb2.MemberRemoveResponse(members=self._shown()))

        self._run(call, change)

    def member_update(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.MemberUpdateRequest, body)

        async def change() -> bytes:
            await self._changes.update(request.ID, request.peerURLs)
            return self._reply(rpc_pb2.MemberUpdateResponse(members=self._shown()))

        self._run(call, change)

    def member_promote(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.MemberPromoteRequest, body)

        async def change() -> bytes:
            await self._changes.promote(request.ID)
            return self._reply(rpc_pb2.MemberPromoteResponse(members=self._shown()))

        self._run(call, change)

    def _run(self, call: Call, change: Callable[[], Awaitable[bytes]]) -> None:
        """A change goes on when its caller goes away: half of it may be done."""

        async def work() -> None:
            try:
                call.reply(await change())
            except errors.RequestError as error:
                call.fail(error.code, error.message)

        task = self._member.loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _reply(self, response: Message) -> bytes:
        return self._member.header(0) + response.SerializeToString()


def _shown(member: Member) -> rpc_pb2.Member:
    return rpc_pb2.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )
