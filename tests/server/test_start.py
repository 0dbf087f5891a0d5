"""What a start does besides serving: notice for systemd, a defragmentation that is worth it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from kvserver.errors import FatalError
from kvserver.founding import refuse_contradictions
from kvserver.proto import health_pb2, health_pb2_grpc, rpc_pb2
from kvserver.resolving import local_host, resolved_url
from tests.support.in_process import config, running

LIFE = (
    "starting an etcd server",
    "configuring peer listeners",
    "serving peer traffic",
    "published local member to cluster through raft",
    "configuring client listeners",
    "serving client traffic insecurely; this is strongly discouraged!",
    "ready to serve client requests",
    "closing etcd server",
    "closed etcd server",
)
"""Messages that scripts look for, in the order of a life (spec/config.md §6)."""


async def test_a_life_in_etcds_words(tmp_path: Path) -> None:
    before = "the server is already initialized as member before, starting as etcd member..."
    for expected in (LIFE, (before, *LIFE)):
        async with running(tmp_path, enable_pprof=True) as member:
            lines = member.log
        told = [line["msg"] for line in lines.lines if line["msg"] in {*LIFE, before}]
        assert told == list(expected)
        assert lines.find("pprof is enabled")


@pytest.mark.parametrize("is_abstract", [False, True])
async def test_systemd_is_told_once_when_clients_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool
) -> None:
    """spec/config.md §7, case 28."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.setblocking(False)
        systemd.bind("\0" + path if is_abstract else path)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + path if is_abstract else path)
        async with running(tmp_path / "data") as member:
            assert systemd.recv(100) == b"READY=1"
            await member.kv.Put(rpc_pb2.PutRequest(key=b"k"))
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


async def test_a_notice_that_nobody_takes_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    async with running(tmp_path / "data") as member:
        (line,) = member.log.find("failed to notify systemd for readiness")
        assert line["error"] == "No such file or directory"


async def test_a_start_defragments_when_enough_would_be_freed(tmp_path: Path) -> None:
    """--bootstrap-defrag-threshold-megabytes."""
    async with running(tmp_path) as member:
        for number in range(12):
            await member.kv.Put(rpc_pb2.PutRequest(key=b"%d" % number, value=b"x" * 300_000))
        async with asyncio.timeout(60):  # until all of it has reached the file
            while (await member.maintenance.Status(rpc_pb2.StatusRequest())).dbSize < 3_500_000:
                pass
        answer = await member.kv.DeleteRange(rpc_pb2.DeleteRangeRequest(key=b"0", range_end=b"9~"))
        await member.kv.Put(rpc_pb2.PutRequest(key=b"kept", value=b"v"))
        revision = answer.header.revision
        await member.kv.Compact(rpc_pb2.CompactionRequest(revision=revision, physical=True))
    async with running(tmp_path, bootstrap_defrag_threshold_megabytes=500) as member:
        (skipped,) = member.log.find("Skipping defragmentation")
        assert skipped["current-db-size-bytes"] > 3_000_000
        assert not member.log.find("finished defragment")
    async with running(tmp_path, bootstrap_defrag_threshold_megabytes=1) as member:
        (done,) = member.log.find("finished defragment")
        assert done["size-after"] < 1_000_000 < done["size-before"]
        status = await member.maintenance.Status(rpc_pb2.StatusRequest())
        assert status.dbSize < done["size-before"] / 4  # a flush may have added a page or two
        found = await member.kv.Range(rpc_pb2.RangeRequest(key=b"kept"))
        assert found.kvs[0].value == b"v"


@pytest.mark.parametrize("is_told", [True, False])
async def test_clients_may_be_told_to_go_elsewhere_during_a_defragmentation(
    tmp_path: Path, is_told: bool
) -> None:
    """The gate StopGRPCServiceOnDefrag (spec/observability.md §5)."""
    gates = {"StopGRPCServiceOnDefrag": is_told}
    async with running(tmp_path, feature_gates=gates) as member:
        watch = health_pb2_grpc.HealthStub(member.channel).Watch(health_pb2.HealthCheckRequest())
        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, 2
        assert (await watch.read()).status == serving
        told = asyncio.ensure_future(watch.read())
        await member.maintenance.Defragment(rpc_pb2.DefragmentRequest())
        if is_told:
            assert (await told).status == not_serving
            assert (await watch.read()).status == serving
        else:
            # Whatever was said during it came before the answer, on the same connection.
            assert not told.done()
        watch.cancel()
        await asyncio.gather(told, return_exceptions=True)


def addresses(name: str) -> str:
    return {"m.example.com": "10.0.0.1", "six.example.com": "fd00::1"}.get(name, "")


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("http://m.example.com:2380", "http://10.0.0.1:2380"),
        ("https://six.example.com:1", "https://[fd00::1]:1"),
        ("http://unknown:1", "http://unknown:1"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://10.0.0.9:1", "http://10.0.0.9:1"),
        ("unix://m.example.com:1", "unix://m.example.com:1"),
    ],
)
def test_urls_by_address(url: str, resolved: str) -> None:
    assert resolved_url(url, addresses) == resolved


def test_names_and_addresses_of_one_place_are_the_same(tmp_path: Path) -> None:
    """spec/cluster.md §2.1 rule 1: compared literally first, then after resolution."""

    def founding(listed: str, *advertised: str) -> None:
        flags = {"initial-advertise-peer-urls": advertised, "initial-cluster": f"default={listed}"}
        refuse_contradictions(config(tmp_path, **flags), addresses)

    founding("http://m.example.com:1", "http://10.0.0.1:1")
    with pytest.raises(FatalError, match=r'"http://10\.0\.0\.2:1"') as refusal:
        founding("http://m.example.com:1", "http://10.0.0.2:1")
    assert '"http://10.0.0.1:1"(resolved from "http://m.example.com:1")' in str(refusal.value)
    with pytest.raises(FatalError, match=r"^--initial-advertise-peer-urls has .* but"):
        founding("http://m.example.com:1", "http://m.example.com:1", "http://10.0.0.2:1")


@pytest.mark.parametrize(
    ("urls", "host"),
    [
        (["http://10.0.0.1:1", "http://10.0.0.2:1"], "10.0.0.1"),
        (["http://localhost:1", "http://m.example.com:1", "http://127.0.0.1:1"], ""),
        (["http://0.0.0.0:1", "http://[::1]:1", "https://[fd00::1]:1"], "fd00::1"),
        (["unix://10.0.0.1:1"], "10.0.0.1"),
        ([], ""),
    ],
)
def test_where_a_member_dials_from(urls: list[str], host: str) -> None:
    """The gate SetMemberLocalAddr (spec/config.md §2.8)."""
    assert local_host(urls) == host


async def test_a_member_without_an_address_of_its_own_says_so(tmp_path: Path) -> None:
    gates = {"SetMemberLocalAddr": True}
    async with running(tmp_path, feature_gates=gates) as member:
        text = "unable to set a member local address due to lack of suitable local addresses"
        (line,) = member.log.find(text)
        assert line["advertise-peer-urls"] == ["http://localhost:2380"]
