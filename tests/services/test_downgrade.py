"""Maintenance.Downgrade (spec/maintenance.md §8, spec/cluster.md §6.4 and case 27)."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from kvserver.peers import versions
from kvserver.proto import rpc_pb2
from tests.support.in_process import Member, running

VALIDATE = rpc_pb2.DowngradeRequest.VALIDATE
ENABLE = rpc_pb2.DowngradeRequest.ENABLE
CANCEL = rpc_pb2.DowngradeRequest.CANCEL


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "VERSION_POLL_SECONDS", 0.02)


async def downgrade(member: Member, action: int, version: str = "") -> str:
    request = rpc_pb2.DowngradeRequest(action=action, version=version)  # type: ignore[arg-type]
    return (await member.maintenance.Downgrade(request)).version


async def refused(member: Member, action: int, version: str = "") -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await downgrade(member, action, version)
    return refusal.value.code().name, refusal.value.details() or ""


async def cluster_version(member: Member) -> str:
    return str(json.loads((await member.get("/version"))[1])["etcdcluster"])


async def version_becomes(member: Member, wanted: str) -> None:
    async with asyncio.timeout(60):
        while await cluster_version(member) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def downgrade_info(member: Member) -> tuple[bool, str]:
    info = (await member.maintenance.Status(rpc_pb2.StatusRequest())).downgradeInfo
    return info.enabled, info.targetVersion


async def test_only_one_minor_version_down_is_valid(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        assert await downgrade(member, VALIDATE, "3.6") == "3.7"
        assert await downgrade(member, VALIDATE, "3.6.2") == "3.7"
        for text in ("abc", "3", "", "3.6.x"):
            assert await refused(member, VALIDATE, text) == (
                "INVALID_ARGUMENT",
                "etcdserver: wrong downgrade target version format",
            )
        for text in ("3.5", "3.7", "3.8.0", "2.6.0"):
            assert await refused(member, VALIDATE, text) == (
                "INVALID_ARGUMENT",
                "etcdserver: invalid downgrade target version",
            )
        assert await refused(member, 7) == ("UNKNOWN", "etcdserver: unknown method")
        assert await downgrade_info(member) == (False, "")


async def test_a_downgrade_lowers_the_version_and_survives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        await downgrade(member, ENABLE, "3.6.1")
        assert await downgrade_info(member) == (True, "3.6.0")
        await version_becomes(member, "3.6.0")
        for action in (VALIDATE, ENABLE):
            # The next one down is the only valid target, and there is a job already.
            assert await refused(member, action, "3.5") == (
                "FAILED_PRECONDITION",
                "etcdserver: cluster has a downgrade job in progress",
            )
    async with running(tmp_path) as member:
        assert await downgrade_info(member) == (True, "3.6.0")
        assert await cluster_version(member) == "3.6.0"
        assert await downgrade(member, CANCEL) == "3.6"
        assert await downgrade_info(member) == (False, "")
        await version_becomes(member, "3.7.0")


async def test_cancelling_nothing_is_no_error(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        assert await downgrade(member, CANCEL) == "3.7"


async def test_the_downgrade_ends_by_itself_when_every_member_is_of_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, downgrade_check_time=0.02) as member:
        await downgrade(member, ENABLE, "3.6")
        await version_becomes(member, "3.6.0")
        monkeypatch.setattr(versions, "SERVER_VERSION", "3.6.9")  # as if it had been replaced
        async with asyncio.timeout(60):
            while (await downgrade_info(member))[0]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await cluster_version(member) == "3.6.0"
