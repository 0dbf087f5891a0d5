"""Keydeck and real etcd members in one cluster (spec/peer.md §11, cases 10 to 15, 18 to 20)."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import grpc
import pytest

from kvserver.proto import rpc_pb2 as rpc
from tests.support.cluster_proc import (
    CALL_SECONDS_MAX,
    KEYDECK,
    SECONDS_MAX,
    Cluster,
    ClusterMember,
    cluster_of,
    patiently,
)
from tests.support.etcd_binaries import EtcdRelease
from tests.support.servers_proc import wait_until

SHORT_LOG = ("--snapshot-count=50",)
KEPT_ENTRIES = 5000
"""What a release of that time keeps in its log, whatever the flags say."""


@pytest.fixture
def etcd(release35: EtcdRelease) -> tuple[str, ...]:
    return (str(release35.etcd),)


@pytest.fixture
def mixed(tmp_path: Path, etcd: tuple[str, ...]) -> Iterator[Cluster]:
    with cluster_of(tmp_path, KEYDECK, etcd, etcd) as cluster:
        yield cluster


def check_writes(cluster: Cluster, prefix: bytes) -> None:
    for number, member in enumerate(cluster.members):
        revision = member.put(b"%b-%d" % (prefix, number), b"v%d" % number)
    for member in cluster.members:
        assert [member.get(b"%b-%d" % (prefix, i)) for i in range(3)] == [b"v0", b"v1", b"v2"]
    assert len(cluster.wait_equal(revision)) == 1


def check_leases(cluster: Cluster) -> None:
    """Case 18, through every member."""
    for member in cluster.members:
        granted = granted_lease(member, rpc.LeaseGrantRequest(TTL=600))
        assert left(member, granted).grantedTTL == 600
        assert renewed(member, granted) == 600
        assert renewed(member, 4711) == 0


def granted_lease(member: ClusterMember, grant: rpc.LeaseGrantRequest) -> int:
    return int(patiently(lambda: member.lease.LeaseGrant(grant, timeout=CALL_SECONDS_MAX)).ID)


def left(member: ClusterMember, lease: int) -> rpc.LeaseTimeToLiveResponse:
    asked = rpc.LeaseTimeToLiveRequest(ID=lease, keys=True)
    ask = member.lease.LeaseTimeToLive
    return patiently(lambda: ask(asked, timeout=CALL_SECONDS_MAX))


def renewed(member: ClusterMember, lease: int) -> int:
    asked = rpc.LeaseKeepAliveRequest(ID=lease)
    ask = member.lease.LeaseKeepAlive
    return int(patiently(lambda: next(ask(iter([asked]), timeout=CALL_SECONDS_MAX))).TTL)


def test_either_kind_leads(mixed: Cluster) -> None:
    """Cases 10 and 11: elected, transferred to and from; leases and hashes through each."""
    ours, other = mixed[0], mixed[1]
    mixed.lead(ours)
    check_writes(mixed, b"ours")
    check_leases(mixed)
    mixed.lead(other)
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

    def write(first: int) -> None:
        puts = [rpc.PutRequest(key=b"k%05d" % i) for i in range(first, first + 400)]
        for call in [member.kv.Put.future(put, timeout=2 * CALL_SECONDS_MAX) for put in puts]:
            call.result()

    for first in range(0, KEPT_ENTRIES + 400, 400):
        patiently(lambda first=first: write(first))
    with contextlib.suppress(grpc.RpcError):  # granted already, by a call that an election parted
        granted_lease(member, rpc.LeaseGrantRequest(ID=77, TTL=600))
    leased = rpc.PutRequest(key=b"leased", lease=77)
    patiently(lambda: member.kv.Put(leased, timeout=CALL_SECONDS_MAX))
    wait_until(
        lambda: "ompacted Raft logs" in member.process.log_path.read_text(),
        SECONDS_MAX,
        "a short log",
    )
    return member.put(b"last", b"")


def check_database(cluster: Cluster, late: ClusterMember, revision: int) -> None:
    assert len(cluster.wait_equal(revision)) == 1
    assert list(left(late, 77).keys) == [b"leased"]
    assert "applied snapshot" in late.process.log_path.read_text()


def test_ours_sends_its_database_to_theirs(tmp_path: Path, etcd: tuple[str, ...]) -> None:
    """Case 12, with a voter that was away."""
    with cluster_of(tmp_path, KEYDECK, KEYDECK, etcd, flags=SHORT_LOG) as cluster:
        late = cluster[2]
        cluster.lead(cluster[0])
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
        old.promote(join_as_learner(old, joiner))
        joiner.process.wait_ready()
        revision = joiner.put(b"by", b"the new voter")
        check_database(cluster, joiner, revision)


class Load(threading.Thread):
    """Writes of every kind through one member after the other, and compactions, until stopped."""

    def __init__(self, members: Sequence[ClusterMember]) -> None:
        super().__init__()
        self.members = list(members)
        self.done = 0
        self._stopping = threading.Event()
        self._random = random.Random(7)

    def run(self) -> None:
        while not self._stopping.is_set():
            member = self.members[self.done % len(self.members)]
            with contextlib.suppress(grpc.RpcError):  # an election, or a learner: no write at all
                self._write(member, b"k%02d" % self._random.randrange(40))
            self.done += 1

    def _write(self, member: ClusterMember, key: bytes) -> None:
        number = self.done
        put = rpc.PutRequest(key=key, value=b"v%d" % number)
        if number % 5 == 1:
            member.kv.DeleteRange(rpc.DeleteRangeRequest(key=key), timeout=10)
        elif number % 5 == 2:
            other = rpc.PutRequest(key=key + b"/2", value=b"t")
            operations = [rpc.RequestOp(request_put=put), rpc.RequestOp(request_put=other)]
            member.kv.Txn(rpc.TxnRequest(success=operations), timeout=10)
        elif number % 5 == 3:
            lease = member.lease.LeaseGrant(
                rpc.LeaseGrantRequest(TTL=600), timeout=CALL_SECONDS_MAX
            )
            put.lease = lease.ID
            member.kv.Put(put, timeout=10)
            if number % 2:
                member.lease.LeaseRevoke(
                    rpc.LeaseRevokeRequest(ID=lease.ID), timeout=CALL_SECONDS_MAX
                )
        else:
            revision = member.kv.Put(put, timeout=10).header.revision
            if number % 100 == 0:
                request = rpc.CompactionRequest(revision=revision - 20, physical=True)
                member.kv.Compact(request, timeout=10)

    def more(self, count: int, what: str) -> None:
        """Wait for so many more writes."""
        wanted = self.done + count
        wait_until(lambda: self.done >= wanted, 2 * SECONDS_MAX, f"writes {what}")

    def stop(self) -> None:
        self._stopping.set()
        self.join(SECONDS_MAX)


@contextlib.contextmanager
def loaded(members: Sequence[ClusterMember]) -> Iterator[Load]:
    load = Load(members)
    load.start()
    try:
        yield load
    finally:
        load.stop()


CHECKS = ("--experimental-corrupt-check-time=1s",)
OUR_CHECKS = (*CHECKS, "--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=1s")
CHECKED = "finished periodic corruption check"


@pytest.mark.parametrize("joiner_is_ours", [True, False])
def test_a_member_of_the_other_kind_joins_and_leads_under_load(
    tmp_path: Path, etcd: tuple[str, ...], joiner_is_ours: bool
) -> None:
    """Cases 10 to 13 at once, in both directions; the corruption checks of both kinds look on and
    find nothing (spec/maintenance.md §9).

    The cluster that takes in a 3.5 member has one already: see the test after this one.
    """
    kinds = (etcd, etcd) if joiner_is_ours else (KEYDECK, KEYDECK, etcd)
    with cluster_of(tmp_path, *kinds, starts=False) as cluster:
        for member, kind in zip(cluster.members, kinds, strict=True):
            member.process.flags = CHECKS if kind is etcd else OUR_CHECKS
        cluster.start()
        first = cluster[0]
        cluster.lead(first)
        with loaded(cluster.members) as load:
            load.more(100, "before anybody joins")
            command, flags = (KEYDECK, OUR_CHECKS) if joiner_is_ours else (etcd, CHECKS)
            number = join_as_learner(first, joiner := cluster.joiner("joiner", command, flags))
            load.more(100, "with a learner")
            first.promote(number)
            joiner.process.wait_ready()
            load.members.append(joiner)
            cluster.lead(joiner)
            load.more(200, "under the joiner")
            wait_for_a_check(cluster, joiner if joiner_is_ours else first)
            cluster.lead(first)
            load.more(100, "under the first again")
        revision = joiner.put(b"the", b"end")
        assert len(cluster.wait_equal(revision)) == 1
        for member in cluster.members:
            ask = member.maintenance.Alarm
            found = patiently(lambda ask=ask: ask(rpc.AlarmRequest(), timeout=CALL_SECONDS_MAX))
            assert not found.alarms
            assert "found data inconsistency" not in member.process.log_path.read_text()


def test_a_member_of_an_earlier_release_does_not_join_ours_alone(
    tmp_path: Path, etcd: tuple[str, ...]
) -> None:
    """Our members alone decide on cluster version 3.7, and no etcd joins a cluster of a later
    version than its own (spec/cluster.md §2.2); it never falls, so found it together, or downgrade
    it minor by minor."""
    with cluster_of(tmp_path, KEYDECK) as cluster:
        joiner = cluster.joiner("m1", etcd)
        join_as_learner(cluster[0], joiner)
        assert joiner.process.wait_exit(SECONDS_MAX) == 1
        assert "incompatible with current running cluster" in joiner.process.log(100_000)


def wait_for_a_check(cluster: Cluster, ours: ClusterMember) -> None:
    """Until our member, which has to lead for it, has compared everybody."""
    others = len(cluster.members) - 1
    back = cluster.leader()
    wanted = f'{CHECKED}"'

    def is_checked() -> bool:
        cluster.lead(ours)
        lines = [line for line in ours.process.log_path.read_text().splitlines() if wanted in line]
        return any(f'"peers-compared":{others}' in line for line in lines)

    wait_until(is_checked, 2 * SECONDS_MAX, "our member has compared everybody")
    cluster.lead(back)


def join_as_learner(member: ClusterMember, joiner: ClusterMember) -> int:
    added = member.add(joiner.peer_url, is_learner=True)
    joiner.process.spawn()
    return int(added.member.ID)


def test_ours_stands_in_a_cluster_of_34(tmp_path: Path, release34: EtcdRelease) -> None:
    """Case 13 of spec/raft-wire.md: attributes and cluster version in the form that 3.4 knows
    (W6), whoever leads; and a 3.4 member that comes back applies all of the log."""
    old = (str(release34.etcd),)
    with cluster_of(tmp_path, KEYDECK, old, old, starts=False) as cluster:
        ours, other, late = cluster.members
        # Theirs are to be up when ours founds the cluster with them (ARCHITECTURE.md).
        for member in (other, late):
            member.process.spawn()
            wait_until(partial(listens, member.process.peer_port), SECONDS_MAX, "it listens")
        cluster.start()
        cluster.lead(ours)
        check_writes(cluster, b"ours")
        check_leases(cluster)
        late.process.kill()
        cluster.lead(other)
        assert sorted(m.name for m in ours.members()) == ["m0", "m1", "m2"]
        late.process.start()
        check_writes(cluster, b"theirs")
        for member in cluster.members:
            wait_until(
                lambda of=member.process: '"etcdcluster":"3.4.0"' in of.http_get("/version"),
                SECONDS_MAX,
                "all know the version",
            )
        ours.process.kill()
        ours.process.start()
        revision = ours.put(b"again", b"published")
        assert len(cluster.wait_equal(revision)) == 1
        assert all(member.process.running() for member in cluster.members)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), CALL_SECONDS_MAX).close()
        return True
    return False


def test_a_removed_member_of_either_kind_stops(mixed: Cluster) -> None:
    """Case 14."""
    keeper = mixed[2]
    for gone in (mixed[0], mixed[1]):
        keeper.remove(gone.status().header.member_id)
        assert gone.process.wait_exit(SECONDS_MAX) == 0
        mixed.leader()
    assert keeper.put(b"k", b"v") == 2
