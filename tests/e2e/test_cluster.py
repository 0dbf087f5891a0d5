"""Three members on loopback (spec/cluster.md §13, spec/peer.md §11): writes through each of them,
leaders killed and replaced, restarts, membership, and HashKV equal at the end of each story."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.cluster_proc import (
    CALM,
    CALM_ELECTION_SECONDS,
    KEYDECK,
    Cluster,
    ClusterMember,
    cluster_of,
    patiently,
)
from tests.support.servers_proc import wait_until

QUICK = ("--heartbeat-interval=50", "--election-timeout=500", "--bcrypt-cost=4")
SECONDS_MAX = 120.0
CALL_SECONDS_MAX = 30.0
"""Both only end a test that hangs."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=QUICK) as three:
        yield three


@pytest.fixture
def calm(tmp_path: Path) -> Iterator[Cluster]:
    """Nobody leads but by what the test does."""
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=CALM) as three:
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
    assert cluster.leader(cluster.members), "all of them say the same"
    follower = cluster.followers()[0]

    def left(lease: int) -> rpc.LeaseTimeToLiveResponse:
        asked = rpc.LeaseTimeToLiveRequest(ID=lease)
        ask = follower.lease.LeaseTimeToLive
        return patiently(lambda: ask(asked, timeout=CALL_SECONDS_MAX))

    def renewed(lease: int) -> int:
        asked = rpc.LeaseKeepAliveRequest(ID=lease)
        ask = follower.lease.LeaseKeepAlive
        return int(patiently(lambda: next(ask(iter([asked]), timeout=CALL_SECONDS_MAX))).TTL)

    grant = rpc.LeaseGrantRequest(TTL=600)
    granted = patiently(lambda: follower.lease.LeaseGrant(grant, timeout=CALL_SECONDS_MAX))
    assert left(granted.ID).grantedTTL == 600
    assert renewed(granted.ID) == 600
    assert renewed(12345) == 0, "spec/peer.md case 18"
    assert left(12345).TTL == -1


def test_a_token_counts_on_every_member_at_once(tmp_path: Path) -> None:
    """spec/auth.md case 26: a member that lags waits for the entry that made it."""
    flags = (*CALM, "--bcrypt-cost=4")
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=flags) as cluster:
        log_in_everywhere(cluster)


def log_in_everywhere(cluster: Cluster) -> None:
    user = {"name": "root", "password": "rp"}
    own = {"timeout": CALL_SECONDS_MAX}
    first = services.AuthStub(cluster[0].stubs())
    first.UserAdd(rpc.AuthUserAddRequest(**user), **own)
    first.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"), **own)
    first.AuthEnable(rpc.AuthEnableRequest(), **own)
    for number in range(150):
        here, *others = (cluster[(number + i) % 3] for i in range(3))
        login = rpc.AuthenticateRequest(**user)
        token = services.AuthStub(here.stubs()).Authenticate(login, **own).token
        read = rpc.RangeRequest(key=b"k", serializable=True)
        asked = [
            member.kv.Range.future(read, metadata=[("token", token)], **own) for member in others
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
    links = [f'{{Local="{own}",Remote="{number}"}}' for number in ids]

    def are_up() -> bool:
        found = figures()
        return all(found.get(name) for name in probed) and all(
            found[f"etcd_network_active_peers{link}"] for link in links
        )

    wait_until(are_up, SECONDS_MAX, "both peers are there and probed")
    found = figures()
    for number, link in zip(ids, links, strict=True):
        assert found[f'etcd_network_peer_sent_bytes_total{{To="{number}"}}'] > 0
        assert found[f'etcd_network_peer_received_bytes_total{{From="{number}"}}'] > 0
        assert found[f"etcd_network_known_peers{link}"] == 1
    cluster[1].process.kill()
    lost = f'Local="{own}",Remote="{second}"'

    def is_counted() -> bool:
        now = figures()
        return bool(
            now[f"etcd_network_disconnected_peers_total{{{lost}}}"]
            and not now[f"etcd_network_active_peers{{{lost}}}"]
        )

    wait_until(is_counted, SECONDS_MAX, "the loss is counted")


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
                self._member.put_once(key, key)
            except grpc.RpcError:
                continue  # unknown outcome: never written again under this name
            self.acknowledged.append(key)

    def stop(self) -> None:
        self._stopping.set()
        self.join(SECONDS_MAX)


@pytest.mark.parametrize("ends_well", [False, True])
def test_a_leader_is_lost_under_load_and_comes_back(cluster: Cluster, ends_well: bool) -> None:
    """Cases 21 and 22, spec/peer.md case 23: no acknowledged write is lost."""
    leader, followers = cluster.roles()
    writers = [Writer(member, b"w%d" % i) for i, member in enumerate(followers)]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(len(w.acknowledged) > 50 for w in writers), SECONDS_MAX, "some writes")
    term = cluster.lead(leader)  # still, or again
    if ends_well:
        assert leader.process.terminate() == 0
    else:
        leader.process.kill()
    replacement = cluster.leader(followers)
    assert replacement.status().raftTerm > term
    seen = [len(writer.acknowledged) for writer in writers]
    wait_until(
        lambda: all(len(w.acknowledged) > n + 50 for w, n in zip(writers, seen, strict=True)),
        SECONDS_MAX,
        "writes under the new leader",
    )
    leader.process.start()
    for writer in writers:
        writer.stop()
    revision = leader.put(b"end", b"")
    assert len(cluster.wait_equal(revision)) == 1
    request = rpc.RangeRequest(key=b"w", range_end=b"x", keys_only=True)
    everything = patiently(lambda: leader.kv.Range(request, timeout=CALL_SECONDS_MAX))
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
        survivor.add(joiner.peer_url)
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
    alone = cluster[0]
    wait_until(lambda: figure(alone, "etcd_server_has_leader") == 1, SECONDS_MAX, "a leader")
    cluster[1].process.kill()
    cluster[2].process.kill()
    wait_until(lambda: alone.status().leader == 0, SECONDS_MAX, "the leader is missed")
    failed = figure(alone, "etcd_server_proposals_failed_total")
    put = rpc.PutRequest(key=b"k", value=b"w")
    with ThreadPoolExecutor() as asking:
        reading = asking.submit(refused, lambda: alone.get_once(b"k"))
        alarm, own = rpc.AlarmRequest(), {"timeout": CALL_SECONDS_MAX}
        proposing = [
            asking.submit(refused, lambda: alone.kv.Put(put, **own)),
            asking.submit(refused, lambda: alone.maintenance.Alarm(alarm, **own)),
        ]
        readyz = asking.submit(alone.process.http_answer, "/readyz")
        assert alone.get(b"k", serializable=True) == b"v"
        assert list(alone.status().errors) == ["etcdserver: no leader"]
        assert alone.hash_kv()[1] == revision
        assert not alone.lease.LeaseLeases(rpc.LeaseLeasesRequest(), timeout=30).leases
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
            timeout=30,
        )
    assert caught.value.details() == "etcdserver: no leader", "case 19"


def test_leadership_is_moved(calm: Cluster) -> None:
    """Case 12."""
    leader, (follower, other) = calm.roles()
    own = leader.status().header.member_id
    target = follower.status().header.member_id

    def move(member: ClusterMember, to: int) -> rpc.MoveLeaderResponse:
        return member.maintenance.MoveLeader(rpc.MoveLeaderRequest(targetID=to), timeout=30)

    bad = (grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: bad leader transferee")
    assert refused(lambda: move(other, target))[1] == "etcdserver: not leader"
    assert refused(lambda: move(leader, 12345)) == bad
    term = leader.status().raftTerm
    assert not move(leader, own).HasField("header"), "spec/maintenance.md cases 15 and 25"
    move(leader, target)
    assert calm.leader() is follower
    assert follower.status().raftTerm == term + 1, "spec/maintenance.md case 26"
    assert len(calm.wait_equal(other.put(b"after", b"moved"))) == 1


def test_a_leader_that_nobody_relieves_stops_all_the_same(calm: Cluster) -> None:
    """Supervisors count from SIGTERM: what a hand-over takes comes out of the grace."""
    leader, followers = calm.roles()
    for follower in followers:
        os.kill(follower.process.process.pid, signal.SIGSTOP)
    try:
        assert leader.process.terminate(SECONDS_MAX) == 0
    finally:
        for follower in followers:
            os.kill(follower.process.process.pid, signal.SIGCONT)
    lines = [json.loads(line) for line in leader.process.log().splitlines() if line[:1] == "{"]
    said = {line["msg"]: datetime.fromisoformat(line["ts"]) for line in lines}
    tried = said["leadership transfer failed"] - said["leadership transfer starting"]
    assert tried < timedelta(seconds=2 * CALM_ELECTION_SECONDS), "as long as raft would try"
    assert "closed etcd server" in said


def test_a_learner_joins_is_promoted_and_removed(cluster: Cluster) -> None:
    """Cases 6, 8 to 10, 13 to 15 and 17 as far as they need no clock."""
    for number in range(20):
        cluster[0].put(b"k%d" % number, b"v")
    joiner = cluster.joiner("m3", flags=QUICK)
    first = cluster[0].cluster
    added = cluster[0].add(joiner.peer_url, is_learner=True)
    number = added.member.ID
    assert added.member.isLearner
    assert len(added.members) == 4

    def refusal(method: Any, request: Any) -> tuple[grpc.StatusCode, str]:
        """What is refused is refused again; an election is no refusal."""
        with pytest.raises(grpc.RpcError) as caught:
            patiently(lambda: method(request, timeout=CALL_SECONDS_MAX))
        return caught.value.code(), caught.value.details()

    exists = (grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists")
    urls = [joiner.peer_url, "http://127.0.0.1:2"]
    again = rpc.MemberAddRequest(peerURLs=urls, isLearner=True)
    assert refusal(first.MemberAdd, again) == exists
    url = ["http://127.0.0.1:1"]
    second = rpc.MemberAddRequest(peerURLs=url, isLearner=True)
    text = "etcdserver: too many learner members in cluster"
    assert refusal(first.MemberAdd, second)[1] == text
    bad = rpc.MemberUpdateRequest(ID=number, peerURLs=[])
    text = "etcdserver: given member URLs are invalid"
    assert refusal(first.MemberUpdate, bad)[1] == text, "case 20"
    unknown = rpc.MemberUpdateRequest(ID=12345, peerURLs=url)
    text = "etcdserver: member not found"
    assert refusal(first.MemberUpdate, unknown)[1] == text
    assert refusal(first.MemberRemove, rpc.MemberRemoveRequest(ID=12345))[1] == text

    joiner.process.spawn()
    wait_until(
        lambda: any(m.name == "m3" for m in cluster[0].members()),
        SECONDS_MAX,
        "the learner has published",
    )
    wait_until(lambda: joiner.status().isLearner, SECONDS_MAX, "it serves its status")
    answers = {path: joiner.process.http_answer(path) for path in ("/livez", "/readyz", "/health")}
    assert [answers[path][0] for path in ("/livez", "/health")] == [200, 200]
    assert answers["/readyz"][0] == 503, "spec/observability.md case 5"
    assert "[-]non_learner failed: not supported for learner\n" in answers["/readyz"][1]
    assert joiner.get(b"k0", serializable=True) == b"v"
    text = "etcdserver: rpc not supported for learner"
    assert refused(lambda: joiner.put_once(b"x", b"y"))[1] == text

    follower = next(member for member in cluster.followers() if member is not joiner)
    assert not any(member.isLearner for member in follower.promote(number))
    text = "etcdserver: can only promote a learner member"
    promote = rpc.MemberPromoteRequest(ID=number)
    assert refusal(follower.cluster.MemberPromote, promote)[1] == text
    wait_until(lambda: not joiner.status().isLearner, SECONDS_MAX, "it knows that it votes")
    revision = joiner.put(b"by", b"the new voter")
    assert len(cluster.wait_equal(revision)) == 1

    cluster[0].remove(number)
    assert joiner.process.wait_exit(SECONDS_MAX) == 0, "a removed member stops by itself, and well"
    joiner.process.spawn()
    text = "and again when it is started with its old data"
    assert joiner.process.wait_exit(SECONDS_MAX) == 0, text
    assert len(cluster[0].members()) == 3


def test_a_leader_removes_itself(tmp_path: Path) -> None:
    """Cases 13 and 15."""
    with cluster_of(tmp_path, KEYDECK, KEYDECK, flags=QUICK) as two:
        leader, (other,) = two.roles()
        other.remove(leader.status().header.member_id)
        assert leader.process.wait_exit(SECONDS_MAX) == 0
        assert two.leader() is other
        assert other.put(b"k", b"v") == 2
        sole = rpc.MemberRemoveRequest(ID=other.status().header.member_id)
        text = "etcdserver: re-configuration failed due to not enough started members"
        assert refused(lambda: other.cluster.MemberRemove(sole, timeout=30))[1] == text


SHORT_LOG = (*QUICK, "--snapshot-count=50", "--snapshot-catchup-entries=10")


def fill(member: ClusterMember, prefix: bytes, count: int) -> int:
    def write() -> int:
        calls = [
            member.kv.Put.future(
                rpc.PutRequest(key=b"%b%05d" % (prefix, i), value=b"v" * 100),
                timeout=CALL_SECONDS_MAX,
            )
            for i in range(count)
        ]
        return max(int(call.result().header.revision) for call in calls)

    return patiently(write)


def has_logged(member: ClusterMember, message: str) -> bool:
    return f'"msg":"{message}"' in member.process.log_path.read_text()


def shorten_the_logs(*members: ClusterMember) -> None:
    """Writes until none of them, whoever leads then, could send what a member misses as entries."""
    for number in range(12):
        fill(members[0], b"k%02d-" % number, 100)
    for member in members:
        wait_until(
            lambda of=member: has_logged(of, "compacted Raft logs"), SECONDS_MAX, "a short log"
        )


def test_a_member_that_lags_far_is_sent_the_database(tmp_path: Path) -> None:
    """Case 24; and it is there after a restart by SIGKILL."""
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=SHORT_LOG) as cluster:
        leader, (late, other) = cluster.roles()
        late.put(b"early", b"1")
        late.process.kill()
        leader = cluster.leader([leader, other])
        own = {"timeout": CALL_SECONDS_MAX}
        grant = rpc.LeaseGrantRequest(TTL=600)
        granted = patiently(lambda: leader.lease.LeaseGrant(grant, **own))
        put = rpc.PutRequest(key=b"leased", lease=granted.ID)
        patiently(lambda: leader.kv.Put(put, **own))
        shorten_the_logs(leader, other)
        revision = leader.put(b"early", b"2")
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
        left = patiently(lambda: late.lease.LeaseTimeToLive(request, **own))
        assert list(left.keys) == [b"leased"]
        assert sorted(m.name for m in late.members()) == ["m0", "m1", "m2"]


def test_a_kill_between_vouching_for_a_database_and_installing_it(tmp_path: Path) -> None:
    """The next start finds the database beside its own and takes it (spec/storage.md §5)."""
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=SHORT_LOG) as cluster:
        leader, (late, other) = cluster.roles()
        late.put(b"early", b"1")
        late.process.kill()
        shorten_the_logs(other, leader)
        late.process.environment = {"GOFAIL_FAILPOINTS": "raftBeforeApplySnap=panic"}
        late.process.spawn()
        wait_until(lambda: not late.process.running(), SECONDS_MAX, "it dies on the way")
        late.process.environment = {}
        late.process.start()
        assert has_logged(late, "installing a received database")
        revision = late.put(b"early", b"2")
        assert len(cluster.wait_equal(revision)) == 1


def test_a_learner_begins_with_the_database(tmp_path: Path) -> None:
    with cluster_of(tmp_path, KEYDECK, flags=SHORT_LOG) as cluster:
        first = cluster[0]
        shorten_the_logs(first)
        joiner = cluster.joiner("m1", flags=SHORT_LOG)
        added = first.add(joiner.peer_url, is_learner=True)
        joiner.process.spawn()
        wait_until(
            lambda: any(m.name == "m1" for m in first.members()), SECONDS_MAX, "it has published"
        )
        wait_until(
            lambda: has_logged(joiner, "applied snapshot"), SECONDS_MAX, "it has the database"
        )
        assert joiner.get(b"k00-00000", serializable=True) == b"v" * 100
        first.promote(added.member.ID)
        wait_until(lambda: not joiner.status().isLearner, SECONDS_MAX, "it knows that it votes")
        revision = joiner.put(b"by", b"a voter")
        assert len(cluster.wait_equal(revision)) == 1


def test_a_leader_that_slept_finds_its_unfinished_writes_gone(cluster: Cluster) -> None:
    """A frozen leader is replaced; awake again it steps down, drops what was never committed and
    never answers a read from its old state (spec/raft.md §5, §7)."""
    leader, followers = cluster.roles()
    leader.put(b"k", b"old")
    own = {"timeout": 2 * SECONDS_MAX}
    os.kill(leader.process.pid, signal.SIGSTOP)
    frozen_read = leader.kv.Range.future(rpc.RangeRequest(key=b"k"), **own)
    frozen_write = leader.kv.Put.future(rpc.PutRequest(key=b"lost", value=b"x"), **own)
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
