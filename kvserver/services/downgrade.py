"""Maintenance.Downgrade: take the cluster version down by one minor version, so that members of the
older release may take the places of ours (spec/maintenance.md §8, spec/cluster.md §6.4).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.member.proposal import CallbackWaiter
from kvserver.peers.identity import minor_version
from kvserver.peers.versions import previous_minor
from kvserver.proto import membership_pb2, rpc_pb2
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.gate import Gate, parse
from kvserver.transport import Call, Method

PATH = "/etcdserverpb.Maintenance/Downgrade"
VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.\d+(?:[-+].*)?)?")
"""The patch release does not matter (W1)."""
Action = rpc_pb2.DowngradeRequest.DowngradeAction


class UnknownAction(errors.RequestError):
    code = errors.Code.UNKNOWN
    message = "etcdserver: unknown method"


class DowngradeService:
    """The handler of `Maintenance.Downgrade`. Owner: the loop."""

    def __init__(self, member: MemberLoop, gate: Gate) -> None:
        self._member = member
        self._gate = gate
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        handler = self._gate.unary(self.downgrade)
        yield Method(PATH, "unary", handler, request_bytes_max)

    def downgrade(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.DowngradeRequest, body)
        # The change goes on when its caller goes away, and is seen in Status.
        task = self._member.loop.create_task(self._run(call, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, call: Call, request: rpc_pb2.DowngradeRequest) -> None:
        try:
            async with self._lock:
                await self._act(request)
        except errors.RequestError as error:
            call.fail(error.code, error.message)
            return
        member = self._member
        major, minor = minor_version(member.membership.version or "0.0.0") or (0, 0)
        response = rpc_pb2.DowngradeResponse(version=f"{major}.{minor}")
        call.reply(member.header(member.store.revision) + response.SerializeToString())

    async def _act(self, request: rpc_pb2.DowngradeRequest) -> None:
        if request.action == Action.VALIDATE:
            await self._judged(request.version)
        elif request.action == Action.ENABLE:
            await self._propose(True, await self._judged(request.version))
        elif request.action == Action.CANCEL:
            await self._propose(False, "")
        else:
            raise UnknownAction

    async def _judged(self, text: str) -> str:
        """The target, as "3.6.0" (W2)."""
        match = VERSION.fullmatch(text)
        if match is None:
            raise errors.WrongDowngradeVersionFormat
        target = f"{int(match[1])}.{int(match[2])}.0"
        await self._member.readable()
        membership = self._member.membership
        if membership.version is None:
            raise errors.ClusterVersionUnavailable
        if target != previous_minor(membership.version):
            raise errors.InvalidDowngradeTargetVersion
        if membership.downgrade_target:
            raise errors.DowngradeInProcess
        return target

    async def _propose(self, enabled: bool, target: str) -> None:
        request = membership_pb2.DowngradeInfoSetRequest(enabled=enabled, ver=target)
        outcome: asyncio.Future[None] = self._member.loop.create_future()

        def done(error: errors.RequestError | None) -> None:
            if outcome.done():
                return
            if error is None:
                outcome.set_result(None)
            else:
                outcome.set_exception(error)

        waiter = CallbackWaiter(done)
        body = request.SerializeToString()
        self._member.propose(Kind.DOWNGRADE_INFO_SET, request, body, waiter)
        await outcome
