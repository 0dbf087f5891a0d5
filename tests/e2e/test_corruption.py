"""A difference in one member's database is found and told to everybody (spec/maintenance.md §9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import lmdb
import pytest

from kvserver.proto import kv_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.support.cluster_proc import (
    CALM,
    KEYDECK,
    Cluster,
    ClusterMember,
    cluster_of,
    patiently,
)
from tests.support.servers_proc import wait_until

SECONDS_MAX = 120.0
CORRUPT = (grpc.StatusCode.DATA_LOSS, "etcdserver: corrupt cluster")


def plant(member: ClusterMember, key: bytes) -> None:
    """Change one byte of the newest value of `key` in the file of a member that is down."""
    path = member.process.data_dir / "member" / "snap" / "db"
    with lmdb.open(str(path), subdir=False, max_dbs=16, map_size=1 << 30) as environment:
        table = environment.open_db(b"key", create=False)
        with environment.begin(write=True) as txn:
            for record, stored in reversed(list(txn.cursor(table))):
                pair = kv_pb2.KeyValue.FromString(stored)
                if pair.key == key:
                    pair.value = bytes((pair.value[0] ^ 1,)) + pair.value[1:]
                    txn.put(record, pair.SerializeToString(), db=table)
                    return
    raise AssertionError(f"{key!r} is not in the file")


def alarms(member: ClusterMember) -> list[tuple[int, int]]:
    found = patiently(lambda: member.maintenance.Alarm(rpc.AlarmRequest(), timeout=30)).alarms
    return [(alarm.memberID, alarm.alarm) for alarm in found]


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


@pytest.fixture
def odd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, ClusterMember]]:
    """Three members, and a follower that is down with one byte of its data changed. It never leads:
    a leader takes its own data for good."""
    flags = (*CALM, *request.param)
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=flags) as cluster:
        revision = 0
        for number in range(20):
            revision = cluster[0].put(b"k%02d" % number, b"value")
        cluster.wait_equal(revision)
        follower = cluster.followers()[0]
        assert follower.process.terminate() == 0
        plant(follower, b"k07")
        yield cluster, follower


@pytest.mark.parametrize("odd", [("--corrupt-check-time=1s",)], indirect=True)
def test_the_leader_compares_current_data(odd: tuple[Cluster, ClusterMember]) -> None:
    """Case 33."""
    cluster, follower = odd
    follower.process.spawn()

    def is_accused() -> bool:
        return all(member.process.answers() and alarms(member) for member in cluster.members)

    wait_until(is_accused, SECONDS_MAX, "everybody knows of the alarm")
    number = follower.status().header.member_id
    for member in cluster.members:
        assert alarms(member) == [(number, rpc.CORRUPT)]
        assert refused(lambda member=member: member.put_once(b"x", b"y")) == CORRUPT
        assert member.get(b"k03") == b"value"
        assert f"memberID:{number} alarm:CORRUPT " in member.status().errors
    assert "found data inconsistency with peers" in cluster.leader().process.log(500_000)


@pytest.mark.parametrize(
    "odd",
    [("--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=1s")],
    indirect=True,
)
def test_the_leader_compares_the_hashes_of_compactions(odd: tuple[Cluster, ClusterMember]) -> None:
    """Case 34."""
    cluster, follower = odd
    follower.process.start()
    leader = cluster.leader()
    for revision in (5, 10):
        request = rpc.CompactionRequest(revision=revision, physical=True)
        leader.kv.Compact(request, timeout=30)
    wait_until(
        lambda: all(alarms(m) for m in cluster.members), SECONDS_MAX, "everybody knows of the alarm"
    )
    number = follower.status().header.member_id
    assert alarms(cluster[0]) == [(number, rpc.CORRUPT)]
    assert refused(lambda: cluster[1].put_once(b"x", b"y")) == CORRUPT


@pytest.mark.parametrize("odd", [("--experimental-initial-corrupt-check",)], indirect=True)
def test_a_member_compares_itself_before_it_serves(odd: tuple[Cluster, ClusterMember]) -> None:
    cluster, follower = odd
    follower.process.spawn()
    assert follower.process.wait_exit(SECONDS_MAX) == 1
    assert "found data inconsistency with peers" in follower.process.log(500_000)
    assert not alarms(cluster.leader())
    plant(follower, b"k07")  # back as it was
    follower.process.start()
    assert "initial corruption checking passed; no corruption" in follower.process.log(500_000)
    assert len(cluster.wait_equal(follower.put(b"and", b"goes on"))) == 1
