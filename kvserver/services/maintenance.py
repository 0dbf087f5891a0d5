"""The Maintenance service of one member: Status, Alarm, Defragment, Hash, HashKV
(spec/maintenance.md).

Snapshot and Downgrade have files of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.mvcc.backend_hash import BackendHash
from kvserver.proto import rpc_pb2
from kvserver.runtime.background import Background
from kvserver.runtime.member_loop import MemberLoop
from kvserver.runtime.storage_duty import StorageDuty
from kvserver.services.access import Access
from kvserver.services.gate import Gate, parse
from kvserver.transport import Call, Method
from kvserver.version import SERVER_VERSION

PREFIX = "/etcdserverpb.Maintenance/"


class MaintenanceService:
    """Handlers of `etcdserverpb.Maintenance`."""

    def __init__(
        self,
        member: MemberLoop,
        storage: StorageDuty,
        background: Background,
        gate: Gate,
        access: Access,
    ) -> None:
        self._member = member
        self._storage = storage
        self._background = background
        self._gate = gate
        self._access = access
        self._defragmenting: list[Call] = []
        self._moving: asyncio.Task[None] | None = None

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        unary = {
            "Alarm": self.alarm,
            "Defragment": self.defragment,
            "Hash": self.hash,
            "HashKV": self.hash_kv,
            "MoveLeader": self.move_leader,
        }
        for name, handler in unary.items():
            yield Method(PREFIX + name, "unary", self._gate.unary(handler), request_bytes_max)
        status = self._gate.unary(self.status, learner_ok=True)
        yield Method(PREFIX + "Status", "unary", status, request_bytes_max)

    def alarm(self, call: Call, body: bytes) -> None:
        """All three actions go through the log (spec/maintenance.md A5). Changes are for admins
        (P1)."""
        request = parse(rpc_pb2.AlarmRequest, body)
        if request.action != rpc_pb2.AlarmRequest.GET:
            self._access.permit_admin(call)
        self._member.propose(Kind.ALARM, request, body, call, self._access.identity(call))

    def status(self, call: Call, body: bytes) -> bytes:
        parse(rpc_pb2.StatusRequest, body)
        member = self._member
        status = member.raft_status()
        response = rpc_pb2.StatusResponse(
            version=SERVER_VERSION,
            dbSize=self._storage.backend.size_bytes,
            dbSizeInUse=self._storage.backend.size_in_use_bytes,
            leader=status.leader,
            raftIndex=status.committed,
            raftTerm=status.term,
            raftAppliedIndex=status.applied,
            isLearner=member.is_learner,
            storageVersion=member.storage_version,
            dbSizeQuota=member.quota_bytes,
        )
        target = member.membership.downgrade_target
        response.downgradeInfo.enabled = bool(target)
        response.downgradeInfo.targetVersion = target
        response.downgradeInfo.SetInParent()
        response.errors.extend(self._errors(status.leader))
        return member.header(member.store.revision) + response.SerializeToString()

    def _errors(self, leader: int) -> Iterator[str]:
        if not leader:
            yield errors.NoLeader.message
        for member_id, kind in self._member.alarms.pairs():
            name = rpc_pb2.AlarmType.Name(kind)
            yield f"memberID:{member_id} alarm:{name} "

    def defragment(self, call: Call, body: bytes) -> None:
        """Online (design D8). Calls that come while one runs get its outcome."""
        parse(rpc_pb2.DefragmentRequest, body)
        self._defragmenting.append(call)
        if len(self._defragmenting) == 1:
            self._storage.defragment(self._defragmented)

    def _defragmented(self, failure: str) -> None:
        calls, self._defragmenting = self._defragmenting, []
        for call in calls:
            if failure:
                call.fail(errors.Code.UNKNOWN, failure)
            else:
                call.reply(b"")

    def move_leader(self, call: Call, body: bytes) -> bytes | None:
        """L1 to L4."""
        request = parse(rpc_pb2.MoveLeaderRequest, body)
        member = self._member
        if not member.is_leader:
            raise errors.NotLeader
        target = request.targetID
        if target == member.member_id:
            return b""
        known = member.membership.get(target)
        if known is None or known.is_learner:
            raise errors.BadLeaderTransferee
        self._moving = member.loop.create_task(self._move_leader(call, target))
        return None

    async def _move_leader(self, call: Call, target: int) -> None:
        try:
            await self._member.move_leader(target)
        except errors.RequestError as error:
            call.fail(error.code, error.message)
        else:
            call.reply(b"")

    def hash(self, call: Call, body: bytes) -> None:
        parse(rpc_pb2.HashRequest, body)
        member = self._member
        job = BackendHash(self._storage.backend)
        started, figures = self._background.now(), self._background.figures

        def reply() -> bytes:
            figures.hash_seconds.observe(self._background.now() - started)
            response = rpc_pb2.HashResponse(hash=job.result())
            return member.header(member.store.revision) + response.SerializeToString()

        self._background.run(job, call, reply, job.close)

    def hash_kv(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.HashKVRequest, body)
        member = self._member
        job = member.store.hash_kv(request.revision)
        started, figures = self._background.now(), self._background.figures

        def reply() -> bytes:
            figures.hash_rev_seconds.observe(self._background.now() - started)
            revision, found = job.result()
            return member.header(revision) + found

        self._background.run(job, call, reply)
