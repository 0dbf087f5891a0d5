"""Keydeck and real etcd members in one cluster (spec/peer.md §11, cases 10 to 15, 18 to 20)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from kvserver.proto import rpc_pb2 as rpc
from tests.support.cluster_proc import KEYDECK, Cluster, ClusterMember, cluster_of
from tests.support.etcd_binaries import EtcdRelease
from tests.support.servers_proc import wait_until

SHORT_LOG = ("--snapshot-count=50",)
KEPT_ENTRIES = 5000
"""What a release of that time keeps in its log, whatever the flags say."""


@pytest.fixture
def etcd(release35: EtcdRelease) -> tuple[str, ...]:
    """A 3.4 member cannot share a cluster with one that proposes as 3.7 does (W6)."""
    return (str(release35.etcd),)


@pytest.fixture
def mixed(tmp_path: Path, etcd: tuple[str, ...]) -> Iterator[Cluster]:
    with cluster_of(tmp_path, KEYDECK, etcd, etcd) as cluster:
        yield cluster


def lead(cluster: Cluster, member: ClusterMember) -> None:
    leader = cluster.leader()
    if leader is not member:
        target = member.status().header.member_id
        leader.maintenance.MoveLeader(rpc.MoveLeaderRequest(targetID=target), timeout=10)
    assert cluster.leader() is member


def check_writes(cluster: Cluster, prefix: bytes) -> None:
    for number, member in enumerate(cluster.members):
        revision = member.put(b"%b-%d" % (prefix, number), b"v%d" % number)
    for member in cluster.members:
        assert [member.get(b"%b-%d" % (prefix, i)) for i in range(3)] == [b"v0", b"v1", b"v2"]
    assert len(cluster.wait_equal(revision)) == 1


def check_leases(cluster: Cluster) -> None:
    """Case 18, through every member."""
    for member in cluster.members:
        granted = member.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=60), timeout=10)
        asked = rpc.LeaseTimeToLiveRequest(ID=granted.ID)
        assert member.lease.LeaseTimeToLive(asked, timeout=10).grantedTTL == 60
        renewals = iter([rpc.LeaseKeepAliveRequest(ID=granted.ID)])
        assert next(iter(member.lease.LeaseKeepAlive(renewals, timeout=10))).TTL == 60
        gone = iter([rpc.LeaseKeepAliveRequest(ID=4711)])
        assert next(iter(member.lease.LeaseKeepAlive(gone, timeout=10))).TTL == 0


def test_either_kind_leads(mixed: Cluster) -> None:
    """Cases 10 and 11: elected, transferred to and from; leases and hashes through each."""
    ours, other = mixed[0], mixed[1]
    lead(mixed, ours)
    check_writes(mixed, b"ours")
    check_leases(mixed)
    lead(mixed, other)
    check_writes(mixed, b"theirs")
    check_leases(mixed)
    shown = {member.name: list(member.clientURLs) for member in other.members()}
    assert shown["m0"] == [f"http://127.0.0.1:{ours.process.client_port}"]
    ours.process.kill()
    revision = other.put(b"without", b"ours")
    ours.process.start()
    assert ours.get(b"without") == b"ours"
    assert len(mixed.wait_equal(revision)) == 1


def outgrow_the_log(member: ClusterMember) -> int:
    """More writes than the log keeps, and a lease; the last revision."""
    for first in range(0, KEPT_ENTRIES + 400, 400):
        puts = [rpc.PutRequest(key=b"k%05d" % i) for i in range(first, first + 400)]
        for call in [member.kv.Put.future(put, timeout=30) for put in puts]:
            call.result()
    member.lease.LeaseGrant(rpc.LeaseGrantRequest(ID=77, TTL=600), timeout=10)
    member.kv.Put(rpc.PutRequest(key=b"leased", lease=77), timeout=10)
    wait_until(
        lambda: "ompacted Raft logs" in member.process.log_path.read_text(), 20, "a short log"
    )
    return member.put(b"last", b"")


def check_database(cluster: Cluster, late: ClusterMember, revision: int) -> None:
    assert len(cluster.wait_equal(revision)) == 1
    asked = rpc.LeaseTimeToLiveRequest(ID=77, keys=True)
    assert list(late.lease.LeaseTimeToLive(asked, timeout=10).keys) == [b"leased"]
    assert "applied snapshot" in late.process.log_path.read_text()


def test_ours_sends_its_database_to_theirs(tmp_path: Path, etcd: tuple[str, ...]) -> None:
    """Case 12, with a voter that was away."""
    with cluster_of(tmp_path, KEYDECK, KEYDECK, etcd, flags=SHORT_LOG) as cluster:
        late = cluster[2]
        lead(cluster, cluster[0])
        late.put(b"before", b"it was stopped")
        late.process.kill()
        outgrow_the_log(cluster.leader(cluster.members[:2]))
        late.process.start()
        revision = late.put(b"after", b"it came back")
        check_database(cluster, late, revision)
        assert len(late.members()) == 3


def test_theirs_sends_its_database_to_ours(tmp_path: Path, etcd: tuple[str, ...]) -> None:
    """Case 13: a learner starts from a snapshot, serves, is promoted and counts."""
    with cluster_of(tmp_path, etcd, flags=SHORT_LOG) as cluster:
        old = cluster[0]
        outgrow_the_log(old)
        joiner = cluster.joiner("m1", flags=SHORT_LOG)
        request = rpc.MemberAddRequest(peerURLs=[joiner.peer_url], isLearner=True)
        added = old.cluster.MemberAdd(request, timeout=10)
        joiner.process.spawn()

        def is_promoted() -> bool:
            try:
                old.cluster.MemberPromote(rpc.MemberPromoteRequest(ID=added.member.ID), timeout=10)
            except grpc.RpcError as error:
                assert "in sync" in error.details()
                return False
            return True

        wait_until(is_promoted, 30, "the learner is in sync")
        joiner.process.wait_ready(30)
        revision = joiner.put(b"by", b"the new voter")
        check_database(cluster, joiner, revision)


def test_a_removed_member_of_either_kind_stops(mixed: Cluster) -> None:
    """Case 14."""
    keeper = mixed[2]
    for gone in (mixed[0], mixed[1]):
        number = gone.status().header.member_id
        remover = keeper

        def is_removed(number: int = number, remover: ClusterMember = remover) -> bool:
            try:
                remover.cluster.MemberRemove(rpc.MemberRemoveRequest(ID=number), timeout=10)
            except grpc.RpcError as error:
                assert error.details() == "etcdserver: unhealthy cluster"
                return False
            return True

        wait_until(is_removed, 20, "the links are old enough")
        assert gone.process.wait_exit(15) == 0
        mixed.leader()
    assert keeper.put(b"k", b"v") == 2
