"""Three members on loopback (spec/cluster.md §13, spec/peer.md §11): writes through each of them,
leaders killed and replaced, restarts, membership, and HashKV equal at the end of each story."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.cluster_proc import KEYDECK, Cluster, ClusterMember, cluster_of
from tests.support.servers_proc import wait_until

QUICK = ("--heartbeat-interval=50", "--election-timeout=500", "--bcrypt-cost=4")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=QUICK) as three:
        yield three


def refused(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()  # type: ignore[operator]
    return caught.value.code(), caught.value.details()


def test_every_member_takes_writes_and_reads_what_others_wrote(cluster: Cluster) -> None:
    for number, member in enumerate(cluster.members):
        member.put(b"key-%d" % number, b"by-%d" % number)
    for member in cluster.members:
        assert [member.get(b"key-%d" % i) for i in range(3)] == [b"by-0", b"by-1", b"by-2"]
    revision = cluster[0].put(b"last", b"")
    assert len(cluster.wait_equal(revision)) == 1
    names = [member.name for member in cluster[1].members()]
    assert sorted(names) == ["m0", "m1", "m2"]
    assert {member.status().leader for member in cluster.members} == {
        cluster.leader().status().header.member_id
    }
    follower = cluster.followers()[0]
    granted = follower.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=60), timeout=10)
    request = rpc.LeaseTimeToLiveRequest(ID=granted.ID)
    assert follower.lease.LeaseTimeToLive(request, timeout=10).grantedTTL == 60
    alive = follower.lease.LeaseKeepAlive(iter([rpc.LeaseKeepAliveRequest(ID=granted.ID)]))
    assert next(iter(alive)).TTL == 60
    unknown = follower.lease.LeaseKeepAlive(iter([rpc.LeaseKeepAliveRequest(ID=12345)]))
    assert next(iter(unknown)).TTL == 0, "spec/peer.md case 18"
    unknown_request = rpc.LeaseTimeToLiveRequest(ID=12345)
    assert follower.lease.LeaseTimeToLive(unknown_request, timeout=10).TTL == -1


def test_a_token_counts_on_every_member_at_once(cluster: Cluster) -> None:
    """spec/auth.md case 26: a member that lags waits for the entry that made it."""
    user = {"name": "root", "password": "rp"}
    first = services.AuthStub(cluster[0].stubs())
    first.UserAdd(rpc.AuthUserAddRequest(**user), timeout=10)
    first.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"), timeout=10)
    first.AuthEnable(rpc.AuthEnableRequest(), timeout=10)
    for number in range(150):
        here, *others = (cluster[(number + i) % 3] for i in range(3))
        login = rpc.AuthenticateRequest(**user)
        token = services.AuthStub(here.stubs()).Authenticate(login, timeout=10).token
        read = rpc.RangeRequest(key=b"k", serializable=True)
        asked = [
            member.kv.Range.future(read, metadata=[("token", token)], timeout=10)
            for member in others
        ]
        for call in asked:
            assert call.result().count == 0


def test_links_are_measured(cluster: Cluster) -> None:
    """Case 18 of spec/peer.md and spec/observability.md §2.5: the label is the member's id."""
    ours = cluster[0]
    cluster.wait_equal(ours.put(b"k", b"v"))
    second, third = (f"{member.status().header.member_id:x}" for member in cluster.members[1:])
    ids = (second, third)
    own = f"{ours.status().header.member_id:x}"

    def figures() -> dict[str, float]:
        lines = ours.process.http_get("/metrics").splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    probed = [f'etcd_network_peer_round_trip_time_seconds_count{{To="{number}"}}' for number in ids]
    wait_until(lambda: all(figures().get(name) for name in probed), 20, "both peers are probed")
    found = figures()
    for number in ids:
        assert found[f'etcd_network_peer_sent_bytes_total{{To="{number}"}}'] > 0
        assert found[f'etcd_network_peer_received_bytes_total{{From="{number}"}}'] > 0
        assert found[f'etcd_network_active_peers{{Local="{own}",Remote="{number}"}}'] == 1
        assert found[f'etcd_network_known_peers{{Local="{own}",Remote="{number}"}}'] == 1
    cluster[1].process.kill()
    lost = f'Local="{own}",Remote="{second}"'

    def is_counted() -> bool:
        now = figures()
        return bool(
            now[f"etcd_network_disconnected_peers_total{{{lost}}}"]
            and not now[f"etcd_network_active_peers{{{lost}}}"]
        )

    wait_until(is_counted, 20, "the loss is counted")


class Writer(threading.Thread):
    """Puts through one member until told to stop, and keeps the book of what was acknowledged."""

    def __init__(self, member: ClusterMember, name: bytes) -> None:
        super().__init__()
        self.acknowledged: list[bytes] = []
        self._member = member
        self._name = name
        self._stopping = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            key = b"%b-%06d" % (self._name, number)
            number += 1
            try:
                self._member.put(key, key, timeout=10)
            except grpc.RpcError:
                continue  # unknown outcome: never written again under this name
            self.acknowledged.append(key)

    def stop(self) -> None:
        self._stopping.set()
        self.join(30)


@pytest.mark.parametrize("ends_well", [False, True])
def test_a_leader_is_lost_under_load_and_comes_back(cluster: Cluster, ends_well: bool) -> None:
    """Cases 21 and 22, spec/peer.md case 23: no acknowledged write is lost."""
    leader = cluster.leader()
    followers = cluster.followers()
    writers = [Writer(member, b"w%d" % i) for i, member in enumerate(followers)]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(len(w.acknowledged) > 50 for w in writers), 30, "some writes")
    term = leader.status().raftTerm
    if ends_well:
        assert leader.process.terminate() == 0
    else:
        leader.process.kill()
    replacement = cluster.leader(followers)
    assert replacement.status().raftTerm > term
    seen = [len(writer.acknowledged) for writer in writers]
    wait_until(
        lambda: all(len(w.acknowledged) > n + 50 for w, n in zip(writers, seen, strict=True)),
        30,
        "writes under the new leader",
    )
    leader.process.start()
    for writer in writers:
        writer.stop()
    revision = leader.put(b"end", b"")
    assert len(cluster.wait_equal(revision)) == 1
    everything = leader.kv.Range(
        rpc.RangeRequest(key=b"w", range_end=b"x", keys_only=True), timeout=20
    )
    found = {bytes(kv.key) for kv in everything.kvs}
    for writer in writers:
        assert found.issuperset(writer.acknowledged)


def test_all_members_are_killed_and_started_again(cluster: Cluster) -> None:
    for number in range(30):
        revision = cluster[number % 3].put(b"k%02d" % number, b"v")
    for member in cluster.members:
        member.process.kill()
    cluster.start()
    assert cluster[2].get(b"k29") == b"v"
    assert len(cluster.wait_equal(revision)) == 1
    assert [m.name for m in sorted(cluster[0].members(), key=lambda m: m.name)] == [
        "m0",
        "m1",
        "m2",
    ]


def test_one_of_three_goes_on_alone_and_the_cluster_grows_again(cluster: Cluster) -> None:
    """Case 25: --force-new-cluster keeps ids and data, and is for one start only."""
    survivor, *lost = cluster.members
    revision = 0
    for number in range(50):
        revision = survivor.put(b"k%02d" % number, b"v")
    cluster.wait_equal(revision)
    before = survivor.status().header
    (hashed,) = cluster.wait_equal(revision)
    for member in lost:
        member.process.kill()
    survivor.process.terminate()  # what it has applied is on its disk: nothing of it may be dropped
    given = survivor.process.flags
    survivor.process.flags = (*given, "--force-new-cluster")
    survivor.process.start()
    assert survivor.hash_kv(revision)[0] == hashed
    after = survivor.status().header
    assert (after.member_id, after.cluster_id) == (before.member_id, before.cluster_id)
    assert [member.name for member in survivor.members()] == ["m0"]
    assert survivor.put(b"alone", b"v") == revision + 1
    survivor.process.terminate()
    survivor.process.flags = given
    survivor.process.start()
    assert [member.name for member in survivor.members()] == ["m0"]

    grown = Cluster([survivor], cluster.directory)
    for name in ("n1", "n2"):
        joiner = grown.joiner(name, flags=QUICK)
        cluster.members.append(joiner)  # ended with the others
        add = rpc.MemberAddRequest(peerURLs=[joiner.peer_url])

        def added(add: rpc.MemberAddRequest = add) -> bool:
            try:
                survivor.cluster.MemberAdd(add, timeout=10)
            except grpc.RpcError as error:
                assert error.details() == "etcdserver: unhealthy cluster"
                return False
            return True

        wait_until(added, 20, "the links are old enough")
        joiner.process.start()
    assert len(grown.wait_equal(grown[2].put(b"three", b"again"))) == 1
    survivor.process.kill()
    assert grown.leader([grown[1], grown[2]])
    assert grown[1].get(b"k07") == b"v"
    for member in lost:
        assert not member.process.running()


def figure(member: ClusterMember, name: str) -> float:
    """A metric without labels."""
    (line,) = (
        line
        for line in member.process.http_get("/metrics").splitlines()
        if line.startswith(f"{name} ")
    )
    return float(line.split()[1])


def test_without_a_quorum_only_local_reads_are_answered(cluster: Cluster) -> None:
    """Case 18; spec/observability.md cases 3, 8 and 21; spec/maintenance.md cases 11, 27 and 28."""
    revision = cluster[0].put(b"k", b"v")
    cluster.wait_equal(revision)
    cluster[1].process.kill()
    cluster[2].process.kill()
    alone = cluster[0]
    assert figure(alone, "etcd_server_has_leader") == 1
    wait_until(lambda: alone.status().leader == 0, 20, "the leader is missed")
    failed = figure(alone, "etcd_server_proposals_failed_total")
    put = rpc.PutRequest(key=b"k", value=b"w")
    with ThreadPoolExecutor() as asking:
        reading = asking.submit(refused, lambda: alone.get(b"k", timeout=20))
        proposing = [
            asking.submit(refused, lambda: alone.kv.Put(put, timeout=20)),
            asking.submit(refused, lambda: alone.maintenance.Alarm(rpc.AlarmRequest(), timeout=20)),
        ]
        readyz = asking.submit(alone.process.http_answer, "/readyz")
        assert alone.get(b"k", serializable=True) == b"v"
        assert list(alone.status().errors) == ["etcdserver: no leader"]
        assert alone.hash_kv()[1] == revision
        assert not alone.lease.LeaseLeases(rpc.LeaseLeasesRequest(), timeout=10).leases
        assert figure(alone, "etcd_server_has_leader") == 0
        answers = [
            alone.process.http_answer(path)
            for path in ("/health", "/health?serializable=true", "/livez")
        ]
        assert [status for status, _ in answers] == [503, 200, 200]
        assert '"reason":"RAFT NO LEADER"' in answers[0][1]
        unavailable = (grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
        assert reading.result() == unavailable
        late = (grpc.StatusCode.DEADLINE_EXCEEDED, "context deadline exceeded")
        assert [call.result() for call in proposing] == [late, late], "spec/kv.md E4"
        status, text = readyz.result()
        assert (status, "[-]linearizable_read failed: " in text) == (503, True)
        assert "[+]serializable_read ok\n" in text
    assert figure(alone, "etcd_server_proposals_failed_total") >= failed + 2
    with pytest.raises(grpc.RpcError) as caught:
        alone.kv.Range(
            rpc.RangeRequest(key=b"k", serializable=True),
            metadata=(("hasleader", "true"),),
            timeout=10,
        )
    assert caught.value.details() == "etcdserver: no leader", "case 19"


def test_leadership_is_moved(cluster: Cluster) -> None:
    """Case 12."""
    leader = cluster.leader()
    follower, other = cluster.followers()
    own = leader.status().header.member_id
    target = follower.status().header.member_id

    def move(member: ClusterMember, to: int) -> rpc.MoveLeaderResponse:
        return member.maintenance.MoveLeader(rpc.MoveLeaderRequest(targetID=to), timeout=10)

    bad = (grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: bad leader transferee")
    assert refused(lambda: move(other, target))[1] == "etcdserver: not leader"
    assert refused(lambda: move(leader, 12345)) == bad
    term = leader.status().raftTerm
    assert not move(leader, own).HasField("header"), "spec/maintenance.md cases 15 and 25"
    move(leader, target)
    assert cluster.leader() is follower
    assert follower.status().raftTerm == term + 1, "spec/maintenance.md case 26"
    assert len(cluster.wait_equal(other.put(b"after", b"moved"))) == 1


def test_a_learner_joins_is_promoted_and_removed(cluster: Cluster) -> None:
    """Cases 6, 8 to 10, 13 to 15 and 17 as far as they need no clock."""
    for number in range(20):
        cluster[0].put(b"k%d" % number, b"v")
    joiner = cluster.joiner("m3", flags=QUICK)
    first = cluster[0].cluster

    def add(*more_urls: str) -> rpc.MemberAddResponse:
        urls = [joiner.peer_url, *more_urls]
        request = rpc.MemberAddRequest(peerURLs=urls, isLearner=True)
        return first.MemberAdd(request, timeout=10)

    added: list[rpc.MemberAddResponse] = []

    def is_healthy() -> bool:
        try:
            added.append(add())
        except grpc.RpcError as error:
            assert error.details() == "etcdserver: unhealthy cluster"
            return False
        return True

    wait_until(is_healthy, 20, "the links are old enough")
    number = added[0].member.ID
    assert added[0].member.isLearner
    assert len(added[0].members) == 4
    exists = (grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists")
    assert refused(lambda: add("http://127.0.0.1:2")) == exists
    url = ["http://127.0.0.1:1"]
    second = rpc.MemberAddRequest(peerURLs=url, isLearner=True)
    text = "etcdserver: too many learner members in cluster"
    assert refused(lambda: first.MemberAdd(second, timeout=10))[1] == text
    bad = rpc.MemberUpdateRequest(ID=number, peerURLs=[])
    text = "etcdserver: given member URLs are invalid"
    assert refused(lambda: first.MemberUpdate(bad, timeout=10))[1] == text, "case 20"
    unknown = rpc.MemberUpdateRequest(ID=12345, peerURLs=url)
    text = "etcdserver: member not found"
    assert refused(lambda: first.MemberUpdate(unknown, timeout=10))[1] == text
    gone = rpc.MemberRemoveRequest(ID=12345)
    assert refused(lambda: first.MemberRemove(gone, timeout=10))[1] == text

    joiner.process.spawn()
    wait_until(
        lambda: any(m.name == "m3" for m in cluster[0].members()), 30, "the learner has published"
    )
    wait_until(lambda: joiner.status().isLearner, 20, "it serves its status")
    answers = {path: joiner.process.http_answer(path) for path in ("/livez", "/readyz", "/health")}
    assert [answers[path][0] for path in ("/livez", "/health")] == [200, 200]
    assert answers["/readyz"][0] == 503, "spec/observability.md case 5"
    assert "[-]non_learner failed: not supported for learner\n" in answers["/readyz"][1]
    assert joiner.get(b"k0", serializable=True) == b"v"
    text = "etcdserver: rpc not supported for learner"
    assert refused(lambda: joiner.put(b"x", b"y"))[1] == text

    follower = cluster.followers()[0]
    if follower is joiner:
        follower = cluster.followers()[1]
    promote = rpc.MemberPromoteRequest(ID=number)
    promoted = follower.cluster.MemberPromote(promote, timeout=10)
    assert not any(member.isLearner for member in promoted.members)
    text = "etcdserver: can only promote a learner member"
    assert refused(lambda: follower.cluster.MemberPromote(promote, timeout=10))[1] == text
    wait_until(lambda: not joiner.status().isLearner, 20, "it knows that it votes")
    revision = joiner.put(b"by", b"the new voter")
    assert len(cluster.wait_equal(revision)) == 1

    first.MemberRemove(rpc.MemberRemoveRequest(ID=number), timeout=10)
    assert joiner.process.wait_exit(10) == 0, "a removed member stops by itself, and well"
    joiner.process.spawn()
    assert joiner.process.wait_exit(10) == 0, "and again when it is started with its old data"
    assert len(cluster[0].members()) == 3


def test_a_leader_removes_itself(tmp_path: Path) -> None:
    """Cases 13 and 15."""
    with cluster_of(tmp_path, KEYDECK, KEYDECK, flags=QUICK) as two:
        leader = two.leader()
        (other,) = two.followers()
        number = leader.status().header.member_id

        def removed() -> bool:
            try:
                other.cluster.MemberRemove(rpc.MemberRemoveRequest(ID=number), timeout=10)
            except grpc.RpcError as error:
                assert error.details() == "etcdserver: unhealthy cluster"
                return False
            return True

        wait_until(removed, 20, "the links are old enough")
        assert leader.process.wait_exit(10) == 0
        assert two.leader() is other
        assert other.put(b"k", b"v") == 2
        sole = rpc.MemberRemoveRequest(ID=other.status().header.member_id)
        text = "etcdserver: re-configuration failed due to not enough started members"
        assert refused(lambda: other.cluster.MemberRemove(sole, timeout=10))[1] == text


SHORT_LOG = (*QUICK, "--snapshot-count=50", "--snapshot-catchup-entries=10")


def fill(member: ClusterMember, prefix: bytes, count: int) -> int:
    calls = [
        member.kv.Put.future(
            rpc.PutRequest(key=b"%b%05d" % (prefix, i), value=b"v" * 100), timeout=20
        )
        for i in range(count)
    ]
    return max(int(call.result().header.revision) for call in calls)


def has_logged(member: ClusterMember, message: str) -> bool:
    return f'"msg":"{message}"' in member.process.log_path.read_text()


def test_a_member_that_lags_far_is_sent_the_database(tmp_path: Path) -> None:
    """Case 24; and it is there after a restart by SIGKILL."""
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=SHORT_LOG) as cluster:
        leader = cluster.leader()
        late, other = cluster.followers()
        late.put(b"early", b"1")
        late.process.kill()
        leader = cluster.leader([leader, other])
        granted = leader.lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=600), timeout=10)
        leader.kv.Put(rpc.PutRequest(key=b"leased", lease=granted.ID), timeout=10)
        for number in range(12):
            fill(leader, b"k%02d-" % number, 100)
            wait_until(lambda: other.status().header.revision > 1, 10, "a flush or two")
        revision = leader.put(b"early", b"2")
        wait_until(lambda: has_logged(leader, "compacted Raft logs"), 20, "the log is short")
        late.process.start()
        assert late.get(b"early") == b"2"
        assert has_logged(late, "applied snapshot")
        in_one_piece = "rebuilding the key index of a received database in one piece"
        assert not has_logged(late, in_one_piece), "the loop stood still for it"
        assert len(cluster.wait_equal(revision)) == 1
        late.process.kill()
        late.process.start()
        revision = late.put(b"after", b"restart")
        assert len(cluster.wait_equal(revision)) == 1
        request = rpc.LeaseTimeToLiveRequest(ID=granted.ID, keys=True)
        assert list(late.lease.LeaseTimeToLive(request, timeout=10).keys) == [b"leased"]
        assert sorted(m.name for m in late.members()) == ["m0", "m1", "m2"]


def test_a_kill_between_vouching_for_a_database_and_installing_it(tmp_path: Path) -> None:
    """The next start finds the database beside its own and takes it (spec/storage.md §5)."""
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=SHORT_LOG) as cluster:
        late, other = cluster.followers()
        leader = cluster.leader()
        late.put(b"early", b"1")
        late.process.kill()
        for number in range(12):
            fill(other, b"k%02d-" % number, 100)
        wait_until(lambda: has_logged(leader, "compacted Raft logs"), 20, "the log is short")
        late.process.environment = {"GOFAIL_FAILPOINTS": "raftBeforeApplySnap=panic"}
        late.process.spawn()
        assert late.process.wait_exit(20) != 0
        late.process.environment = {}
        late.process.start()
        assert has_logged(late, "installing a received database")
        revision = late.put(b"early", b"2")
        assert len(cluster.wait_equal(revision)) == 1


def test_a_learner_begins_with_the_database(tmp_path: Path) -> None:
    with cluster_of(tmp_path, KEYDECK, flags=SHORT_LOG) as cluster:
        first = cluster[0]
        for number in range(12):
            fill(first, b"k%02d-" % number, 100)
        wait_until(lambda: has_logged(first, "compacted Raft logs"), 20, "the log is short")
        joiner = cluster.joiner("m1", flags=SHORT_LOG)
        request = rpc.MemberAddRequest(peerURLs=[joiner.peer_url], isLearner=True)
        added = first.cluster.MemberAdd(request, timeout=10)
        joiner.process.spawn()
        wait_until(lambda: any(m.name == "m1" for m in first.members()), 30, "it has published")
        wait_until(lambda: has_logged(joiner, "applied snapshot"), 20, "it has the database")
        assert joiner.get(b"k00-00000", serializable=True) == b"v" * 100
        promote = rpc.MemberPromoteRequest(ID=added.member.ID)
        first.cluster.MemberPromote(promote, timeout=10)
        wait_until(lambda: not joiner.status().isLearner, 20, "it knows that it votes")
        revision = joiner.put(b"by", b"a voter")
        assert len(cluster.wait_equal(revision)) == 1


def test_a_leader_that_slept_finds_its_unfinished_writes_gone(cluster: Cluster) -> None:
    """A frozen leader is replaced; awake again it steps down, drops what was never committed and
    never answers a read from its old state (spec/raft.md §5, §7)."""
    leader = cluster.leader()
    followers = cluster.followers()
    leader.put(b"k", b"old")
    os.kill(leader.process.pid, signal.SIGSTOP)
    frozen_read = leader.kv.Range.future(rpc.RangeRequest(key=b"k"), timeout=30)
    frozen_write = leader.kv.Put.future(rpc.PutRequest(key=b"lost", value=b"x"), timeout=30)
    cluster.leader(followers)
    revision = followers[0].put(b"k", b"new")
    os.kill(leader.process.pid, signal.SIGCONT)
    try:
        assert frozen_read.result().kvs[0].value == b"new"
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    try:
        revision = max(revision, frozen_write.result().header.revision)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)
    assert leader.get(b"k") == b"new"
    revision = max(revision, leader.put(b"end", b""))
    assert len(cluster.wait_equal(revision)) == 1
