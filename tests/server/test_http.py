"""Plain HTTP on the client port (spec/wire-api.md §6, spec/observability.md §3-§5, §9)."""

import asyncio
import json
from pathlib import Path

import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kvserver import failpoints
from kvserver.proto import rpc_pb2
from kvserver.version import KEYDECK_VERSION, SERVER_VERSION
from tests.support.in_process import Member, running


async def raise_alarm(member: Member, kind: "rpc_pb2.AlarmType") -> None:
    await member.maintenance.Alarm(
        rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=7, alarm=kind)
    )


async def test_health_and_its_alarms(tmp_path: Path) -> None:
    """Cases 1 and 2: the value is a string; an alarm makes it false unless excluded."""
    async with running(tmp_path) as member:
        assert await member.get("/health") == (200, '{"health":"true","reason":""}')
        status, body = await member.get("/health", "POST")
        assert (status, body.strip()) == (405, "Method Not Allowed")
        await raise_alarm(member, rpc_pb2.NOSPACE)
        status, body = await member.get("/health")
        assert (status, json.loads(body)) == (503, {"health": "false", "reason": "ALARM NOSPACE"})
        assert (await member.get("/health?exclude=NOSPACE"))[0] == 200
        await raise_alarm(member, rpc_pb2.CORRUPT)
        assert (await member.get("/health?exclude=NOSPACE"))[0] == 503
        assert (await member.get("/health?exclude=NOSPACE&exclude=CORRUPT"))[0] == 200
        wrong_method, *refused = member.log.find("/health error")
        assert wrong_method["status-code"] == 405
        assert [line["status-code"] for line in refused] == [503, 503]
        assert json.loads(refused[1]["output"])["reason"] == "ALARM CORRUPT"
        told = member.log.find("serving /health false due to an alarm")
        assert [line["alarm"] for line in told] == ["NOSPACE", "CORRUPT"]


async def test_livez_and_readyz(tmp_path: Path) -> None:
    """Case 4, and the corruption check."""
    async with running(tmp_path) as member:
        assert await member.get("/livez") == (200, "ok\n")
        status, body = await member.get("/readyz?verbose")
        assert status == 200 and body.endswith("ok\n") and body.count("[+]") == 4
        assert (await member.get("/readyz?exclude=nope&exclude=non_learner"))[0] == 200
        (line,) = member.log.find("some health checks cannot be excluded")
        assert line["missing-checks"] == ["nope"]
        assert await member.get("/readyz/linearizable_read") == (200, "ok\n")
        assert (await member.get("/readyz/nope"))[0] == 404
        await raise_alarm(member, rpc_pb2.CORRUPT)
        status, body = await member.get("/readyz")
        assert status == 503
        assert "[-]data_corruption failed: alarm activated: CORRUPT\n" in body
        assert (await member.get("/readyz?exclude=data_corruption"))[0] == 200
        assert (await member.get("/livez"))[0] == 200


async def test_version_and_unknown_paths(tmp_path: Path) -> None:
    """Case 6."""
    async with running(tmp_path) as member:
        status, body = await member.get("/version")
        assert status == 200
        assert json.loads(body) == {
            "etcdserver": SERVER_VERSION,
            "etcdcluster": "3.7.0",
            "storage": "3.7.0",
            "keydeck": KEYDECK_VERSION,
        }
        assert await member.get("/nothing") == (404, "404 page not found\n")
        status, body = await member.get("/debug/vars")
        told = json.loads(body)
        assert status == 200
        assert set(told) == {"cmdline", "memstats", "file_descriptor_limit", "raft.status"}
        own = told["raft.status"]["id"]
        assert told["raft.status"] | {"commit": 0, "applied": 0} == {
            "id": own,
            "term": 2,
            "vote": own,
            "commit": 0,
            "lead": own,
            "raftState": "StateLeader",
            "applied": 0,
            "leadtransferee": "0",
        }
        assert told["memstats"]["Sys"] > 1_000_000


async def test_only_get(tmp_path: Path) -> None:
    """etcd's own answers to other methods; the page of metrics alone has a head."""
    async with running(tmp_path) as member:
        for path in ("/version", "/health", "/livez", "/readyz", "/debug/vars"):
            for method in ("HEAD", "POST", "PUT"):
                assert (await member.get(path, method))[0] == 405, (path, method)
        assert await member.get("/metrics", "HEAD") == (200, "")


async def metrics(member: Member) -> dict[tuple[str, tuple], float]:
    status, page = await member.get("/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def handled(method: str, code: str) -> tuple[str, tuple]:
    return "grpc_server_handled_total", (
        ("grpc_code", code),
        ("grpc_method", method),
        ("grpc_service", "etcdserverpb.KV"),
        ("grpc_type", "unary"),
    )


def started(method: str, service: str = "KV", kind: str = "unary") -> tuple[str, tuple]:
    return "grpc_server_started_total", (
        ("grpc_method", method),
        ("grpc_service", f"etcdserverpb.{service}"),
        ("grpc_type", kind),
    )


async def test_metrics_count_open_watches(tmp_path: Path) -> None:
    """Case 11: dashboards take what was started and not handled for the streams that are open."""

    def streams(figures: dict[tuple[str, tuple], float]) -> tuple[float, float]:
        name, labels = started("Watch", "Watch", "bidi_stream")
        ended = sum(
            value
            for (found, its), value in figures.items()
            if found == "grpc_server_handled_total" and set(labels) <= set(its)
        )
        return figures[name, labels] - ended, figures["etcd_debugging_mvcc_watcher_total", ()]

    async with running(tmp_path) as member:
        create = rpc_pb2.WatchCreateRequest(key=b"k")
        watch = member.watch.Watch(iter([rpc_pb2.WatchRequest(create_request=create)]))
        assert (await watch.read()).created
        assert streams(await metrics(member)) == (1, 1)
        watch.cancel()
        async with asyncio.timeout(60):
            while streams(await metrics(member)) != (0, 0):
                pass


async def test_metrics_tell_how_much_is_stored(tmp_path: Path) -> None:
    """Cases 14 and 15, spec/maintenance.md case 14."""

    async def sizes(member: Member) -> tuple[float, float]:
        found = await metrics(member)
        prefix = "etcd_mvcc_db_total_size_in_"
        return found[f"{prefix}bytes", ()], found[f"{prefix}use_in_bytes", ()]

    async with running(tmp_path, quota_backend_bytes=1_048_576_000) as member:
        assert "\netcd_server_quota_backend_bytes 1048576000\n" in (await member.get("/metrics"))[1]
        for number in range(100):
            await member.kv.Put(rpc_pb2.PutRequest(key=b"%d" % number, value=bytes(8000)))
        gone = await member.kv.DeleteRange(rpc_pb2.DeleteRangeRequest(key=b"0", range_end=b"9~"))
        async with asyncio.timeout(60):  # until all of it has reached the file
            while (full := await sizes(member))[1] < 800_000:
                pass
        revision = gone.header.revision
        await member.kv.Compact(rpc_pb2.CompactionRequest(revision=revision, physical=True))
        async with asyncio.timeout(60):  # free pages are seen by the flush after that
            while (compacted := await sizes(member))[1] > full[1] / 4:
                await member.lease.LeaseGrant(rpc_pb2.LeaseGrantRequest(TTL=60))
        assert compacted[0] >= full[0]
        answer = await member.maintenance.Defragment(rpc_pb2.DefragmentRequest())
        assert not answer.HasField("header")
        async with asyncio.timeout(60):  # a flush in between makes two looks differ
            while True:
                defragmented = await sizes(member)
                status = await member.maintenance.Status(rpc_pb2.StatusRequest())
                if (status.dbSize, status.dbSizeInUse) == defragmented:
                    break
        assert defragmented[0] < compacted[0] / 4
        assert status.header.revision == revision


async def test_a_slow_apply_is_told_without_the_value(tmp_path: Path) -> None:
    """Case 19."""
    async with running(tmp_path) as member:
        failpoints.arm("beforeApplyOneEntryNormal", 'sleep("150ms")')
        try:
            await member.kv.Put(rpc_pb2.PutRequest(key=b"slow", value=b"sesame"))
        finally:
            failpoints.disarm("beforeApplyOneEntryNormal")
        lines = member.log.find("apply request took too long")
        (line,) = (found for found in lines if 'key: "slow" value_size:6' in found["request"])
        assert (line["level"], line["expected-duration"], line["prefix"]) == ("warn", 0.1, "")
        assert line["took"] > 0.1
        assert "sesame" not in json.dumps(member.log.lines)
        assert (await metrics(member))["etcd_server_slow_apply_total", ()] >= 1


async def test_metrics_count_what_happens(tmp_path: Path) -> None:
    """Cases 7, 9, 10, 12, 14, 15 and 25."""
    async with running(tmp_path) as member:
        before = await metrics(member)
        assert before[handled("Put", "OK")] == 0 and before[handled("Put", "DataLoss")] == 0
        for number in range(10):
            await member.kv.Put(rpc_pb2.PutRequest(key=b"k%d" % number, value=b"v"))
        for _ in range(5):
            await member.kv.Range(
                rpc_pb2.RangeRequest(key=b"absent"), metadata=[("client-api-version", "3.6")]
            )
        after = await metrics(member)
        assert after[handled("Put", "OK")] == 10
        assert after[handled("Range", "OK")] == 5
        assert after[started("Put")] == 10 and after[started("Range")] == 5
        with pytest.raises(grpc.aio.AioRpcError):
            await member.kv.Put(rpc_pb2.PutRequest(key=b"k", value=bytes(1_600_000)))
        assert (await metrics(member))[handled("Put", "InvalidArgument")] == 1
        assert after["etcd_server_has_leader", ()] == 1
        assert after["etcd_server_is_leader", ()] == 1
        assert after["etcd_server_quota_backend_bytes", ()] == 2147483648
        assert after["etcd_debugging_mvcc_keys_total", ()] == 10
        assert after["etcd_mvcc_put_total", ()] == 10
        fsyncs = "etcd_disk_wal_fsync_duration_seconds_count"
        assert after[fsyncs, ()] >= before[fsyncs, ()] + 1
        total = after["etcd_mvcc_db_total_size_in_bytes", ()]
        assert total >= after["etcd_mvcc_db_total_size_in_use_in_bytes", ()] > 0
        assert after[
            "etcd_server_client_requests_total",
            (("client_api_version", "3.6"), ("type", "unary")),
        ] == 5  # fmt: skip


async def test_metrics_listeners_serve_nothing_else(tmp_path: Path) -> None:
    """Case 23."""
    async with running(tmp_path, listen_metrics_urls=("http://127.0.0.1:0",)) as member:
        address = member.addresses[1]
        assert (await member.get("/metrics", address=address))[0] == 200
        assert (await member.get("/health", address=address))[0] == 200
        assert (await member.get("/version", address=address))[0] == 404


async def test_the_peer_port_lists_the_members(tmp_path: Path) -> None:
    """spec/wire-api.md §6.4."""
    async with running(tmp_path) as member:
        peer = member.log.find("serving peer traffic")[0]["address"]
        status, body = await member.get("/members", address=peer)
        assert status == 200
        (found,) = json.loads(body)
        assert found["name"] == "default" and found["peerURLs"] == ["http://localhost:2380"]
        assert (await member.get("/version", address=peer))[0] == 200
        assert (await member.get("/health", address=peer))[0] == 404


async def test_extensive_metrics_time_every_call(tmp_path: Path) -> None:
    """Case 13: basic metrics have no such histogram."""
    put = ("grpc_method", "Put"), ("grpc_service", "etcdserverpb.KV"), ("grpc_type", "unary")
    name = "grpc_server_handling_seconds_count"
    async with running(tmp_path / "basic") as member:
        assert not any(
            found.startswith("grpc_server_handling") for found, _ in await metrics(member)
        )
    async with running(tmp_path / "extensive", metrics="extensive") as member:
        await member.kv.Put(rpc_pb2.PutRequest(key=b"k"))
        try:
            await member.kv.Put(rpc_pb2.PutRequest())
        except grpc.aio.AioRpcError as error:
            assert error.details() == "etcdserver: key is not provided"
        assert (await metrics(member))[name, put] == 2
