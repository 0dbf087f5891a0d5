"""What a member alone says of itself (spec/maintenance.md §11)."""

from __future__ import annotations

from pathlib import Path

import grpc.aio
import pytest

from kvserver.proto import rpc_pb2
from tests.support.in_process import running


async def test_an_empty_member_alone(tmp_path: Path) -> None:
    """Cases 1, 10, 12, 16, 18, 23 to 25."""
    async with running(tmp_path) as member:
        maintenance = member.maintenance
        assert not (await maintenance.Alarm(rpc_pb2.AlarmRequest())).alarms
        status = await maintenance.Status(rpc_pb2.StatusRequest())
        own = status.header.member_id
        assert status.leader == own != 0
        assert status.raftIndex >= status.raftAppliedIndex > 0
        assert list(status.errors) == [] and not status.isLearner
        assert (status.dbSizeQuota, status.storageVersion) == (2147483648, "3.7.0")
        assert status.dbSize >= status.dbSizeInUse > 0, "etcdctl divides by it"
        hashed = await maintenance.HashKV(rpc_pb2.HashKVRequest())
        assert (hashed.hash, hashed.compact_revision) == (1084519789, -1)
        assert hashed.header.revision == hashed.hash_revision == 1
        with pytest.raises(grpc.aio.AioRpcError, match="is a future revision"):
            await maintenance.HashKV(rpc_pb2.HashKVRequest(revision=2))
        await maintenance.MoveLeader(rpc_pb2.MoveLeaderRequest(targetID=own))
        for target in (0, 12345):
            with pytest.raises(grpc.aio.AioRpcError, match="bad leader transferee"):
                await maintenance.MoveLeader(rpc_pb2.MoveLeaderRequest(targetID=target))
        activate = rpc_pb2.AlarmRequest.ACTIVATE
        alarm = rpc_pb2.AlarmRequest(action=activate, memberID=own, alarm=rpc_pb2.NOSPACE)
        await maintenance.Alarm(alarm)
        status = await maintenance.Status(rpc_pb2.StatusRequest())
        assert list(status.errors) == [f"memberID:{own} alarm:NOSPACE "]
