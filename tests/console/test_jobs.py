"""What a job does when things do not go well: a cluster in hand, no server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.urls import reverse
from django.utils.timezone import now

from console.gateway import ClusterError, Denied, FateUnknown
from console.maintenance import defragmentation, jobs, plan, work
from console.maintenance.plan import MemberHash, Sizes, proposed_revision, verdict
from console.maintenance.present import job_context
from console.models import Account, AuditRow, Cluster, ClusterGrant, Job
from console.overview.health import Health, Member, MemberStatus, assess
from console.roles import Role
from tests.console.conftest import browser_of, make_account

MIB = 1024 * 1024


def status(leader: int, *, is_learner: bool = False, in_use: int = 2 * MIB) -> MemberStatus:
    return MemberStatus("3.6.0", 10 * MIB, in_use, 0, leader, 2, 50, 50, 9, is_learner, ())


@dataclass
class Three:
    """Leader 1, follower 2, learner 3; what happens at each member can be set."""

    leader: int = 1
    touched: list[int] = field(default_factory=list)
    down: set[int] = field(default_factory=set)
    at: dict = field(default_factory=dict)
    pauses: int = 0
    moves: list[tuple[int, int]] = field(default_factory=list)
    in_use: dict[int, int] = field(default_factory=dict)
    meanwhile: object = None

    def look(self) -> Health:
        if self.meanwhile:
            self.meanwhile()
            self.meanwhile = None
        return assess([self._member(i) for i in (1, 2, 3)])

    def _member(self, i: int) -> Member:
        is_learner = i == 3
        said = status(self.leader, is_learner=is_learner, in_use=self.in_use.get(i, 2 * MIB))
        address = f"http://m{i}:2379"
        member = Member(i, f"m{i}", is_learner, (address,), said, reached_at=address)
        return replace(member, status=None, failure="gone") if i in self.down else member

    def defragment(self, member: Member) -> Sizes:
        self.touched.append(member.id)
        what = self.at.get(member.id)
        if isinstance(what, Exception):
            raise what
        # Done at the next look, by the thread that owns the test's database.
        self.meanwhile = what
        return Sizes(3 * MIB, 2 * MIB)

    def move(self, leader: Member, target: Member) -> None:
        assert leader.id == self.leader
        self.moves.append((leader.id, target.id))
        what = self.at.get("move")
        if isinstance(what, Exception):
            raise what
        self.leader = target.id

    def pause(self, seconds: float) -> None:
        self.pauses += 1
        what = self.at.get("pause")
        if what:
            what()


@pytest.fixture
def cluster(db) -> Cluster:
    return Cluster.objects.create(slug="far", name="far", endpoints="http://m1:2379")


@pytest.fixture
def olga(cluster: Cluster) -> Account:
    return make_account("olga", cluster, Role.OPERATOR)


@pytest.fixture
def three() -> Three:
    return Three()


def start(cluster: Cluster, olga: Account, three: Three, threshold: int = 20) -> Job:
    request = SimpleNamespace(cluster=cluster, user=olga, META={"REMOTE_ADDR": "192.0.2.1"})
    members = [row.member for row in three.look().rows]
    return jobs.create(request, Job.Kind.ROLLING, defragmentation.steps_of(members), threshold)


def run(job: Job, three: Three) -> dict[str, str]:
    hands = defragmentation.Hands(three.look, three.defragment, three.move, three.pause)
    work.execute(job.pk, hands)
    job.refresh_from_db()
    return {step["member"]: step["state"] for step in job.steps}


def test_learners_and_followers_first_the_leader_last(cluster, olga, three) -> None:
    job = start(cluster, olga, three)
    assert set(run(job, three).values()) == {"done"}
    assert three.touched == [3, 2, 1]
    assert job.state == "done"
    assert job_context(job)["freed_bytes"] == 3 * 7 * MIB
    done = AuditRow.objects.filter(outcome="done", account_name="olga")
    assert done.filter(action="defragment member").count() == 3
    assert three.moves == [(1, 2)]  # to a voter: a learner cannot lead
    assert done.get(action="move leader").target == "m1 to m2"


def test_the_leader_of_now_is_last_not_the_one_of_the_start(cluster, olga, three) -> None:
    three.at[3] = lambda: setattr(three, "leader", 2)
    run(start(cluster, olga, three), three)
    assert three.touched == [3, 1, 2]


def test_a_leader_that_is_passed_over_keeps_the_lead(cluster, olga, three) -> None:
    three.in_use = {1: 9 * MIB}
    job = start(cluster, olga, three)
    assert run(job, three) == {"m1": "skipped", "m2": "done", "m3": "done"}
    assert three.moves == []


def test_leadership_that_comes_back_is_not_moved_for_ever(cluster, olga, three) -> None:
    three.move = lambda leader, target: three.moves.append((leader.id, target.id))
    assert set(run(start(cluster, olga, three), three).values()) == {"done"}
    assert three.moves == [(1, 2)]
    assert three.touched == [3, 2, 1]


def test_a_leader_that_cannot_hand_over_is_spared(cluster, olga, three) -> None:
    three.at["move"] = ClusterError("FAILED_PRECONDITION", "bad leader transferee", "e")
    job = start(cluster, olga, three)
    assert run(job, three) == {"m1": "failed", "m2": "done", "m3": "done"}
    assert job.detail == "m1 could not hand the leadership over to m2."
    assert three.touched == [3, 2]
    assert AuditRow.objects.get(action="move leader").outcome == "refused"


def test_one_member_alone_has_nobody_to_hand_over_to(cluster, olga, three) -> None:
    three.down = {2, 3}
    one = three.look().rows[0].member
    alone = assess([one])
    assert plan.successor(alone, one) is None
    assert plan.successor(three.look(), one) is None


def test_an_abort_spares_the_members_left(cluster, olga, three) -> None:
    job = start(cluster, olga, three)
    browser = browser_of(olga)
    three.at[3] = lambda: Job.objects.filter(pk=job.pk).update(abort_asked=True)
    assert run(job, three) == {"m1": "not run", "m2": "not run", "m3": "done"}
    assert job.state == "aborted"
    answer = browser.post(reverse("abort_job", args=["far", job.pk]), follow=True)
    assert "had ended before: nothing to abort" in answer.text


def test_abort_by_the_page_is_a_wish_the_job_reads(cluster, olga, three) -> None:
    job = start(cluster, olga, three)
    browser_of(olga).post(reverse("abort_job", args=["far", job.pk]))
    assert set(run(job, three).values()) == {"not run"}
    assert job.state == "aborted"
    assert AuditRow.objects.get().action == "abort job"


def test_the_gate_waits_until_every_member_answers(cluster, olga, three) -> None:
    three.at[3] = lambda: three.down.add(2)
    three.at["pause"] = lambda: three.down.clear() if three.pauses == 5 else None
    assert set(run(start(cluster, olga, three), three).values()) == {"done"}
    assert three.pauses == 5


def test_a_gate_that_stays_shut_ends_the_job(cluster, olga, three) -> None:
    three.at[3] = lambda: three.down.add(2)
    job = start(cluster, olga, three)
    assert run(job, three) == {"m1": "not run", "m2": "not run", "m3": "done"}
    assert job.state == "stopped"
    assert job.detail == "The cluster did not become whole: m2 is unreachable."


def test_a_member_hardly_fragmented_is_passed_over(cluster, olga, three) -> None:
    three.in_use = {2: 9 * MIB}
    job = start(cluster, olga, three)
    assert run(job, three) == {"m1": "done", "m2": "skipped", "m3": "done"}
    assert three.touched == [3, 1]


@pytest.mark.parametrize(
    ("error", "state", "outcome"),
    [
        (Denied("PERMISSION_DENIED", "etcdserver: permission denied", "e"), "refused", "refused"),
        (ClusterError("INTERNAL", "disk full", "e"), "failed", "failed"),
        (FateUnknown("DEADLINE_EXCEEDED", "deadline", "e"), "unknown", "sent"),
    ],
)
def test_what_the_server_says_ends_the_job(cluster, olga, three, error, state, outcome) -> None:
    three.at[2] = error
    job = start(cluster, olga, three)
    assert run(job, three) == {"m1": "not run", "m2": state, "m3": "done"}
    assert job.state == "stopped"
    row = AuditRow.objects.get(target="m2")
    assert (row.outcome, row.detail) == (outcome, f"{error.code}: {error.message}")
    text = browser_of(olga).get(reverse("job", args=["far", job.pk])).text
    assert error.message in text


@pytest.mark.parametrize("loses", ["role", "account", "write"])
def test_permission_is_asked_again_before_every_member(cluster, olga, three, loses) -> None:
    def lose() -> None:
        if loses == "role":
            ClusterGrant.objects.update(role=Role.EDITOR)
        elif loses == "account":
            Account.objects.update(is_active=False)
        else:
            Cluster.objects.update(is_read_only=True)

    three.at[3] = lose
    job = start(cluster, olga, three)
    run(job, three)
    assert three.touched == [3]
    assert job.state == "stopped"


def test_one_job_a_cluster(cluster, olga, three) -> None:
    job = start(cluster, olga, three)
    with pytest.raises(jobs.Busy):
        start(cluster, olga, three)
    run(job, three)
    start(cluster, olga, three)


def test_a_restart_of_the_console_leaves_no_job_running(cluster, olga, three) -> None:
    job = start(cluster, olga, three)
    job.steps[0]["state"] = "done"
    job.steps[1]["state"] = "running"
    job.save()
    assert jobs.mark_interrupted() == 1
    job.refresh_from_db()
    assert job.state == "interrupted"
    assert [step["state"] for step in job.steps] == ["done", "unknown", "not run"]
    assert job.ended_at is not None
    start(cluster, olga, three)


def test_a_job_without_heartbeat_is_shown_as_interrupted(cluster, olga, three) -> None:
    job = start(cluster, olga, three)
    assert job_context(job)["state"] == "running"
    job.heartbeat_at = now() - timedelta(seconds=jobs.SILENT_SECONDS_MAX + 1)
    job.save()
    assert job_context(job)["state"] == "interrupted"
    start(cluster, olga, three)  # and stands in nobody's way
    job.refresh_from_db()
    assert job.state == "interrupted"


def test_another_clusters_job_is_not_there(cluster, olga, three) -> None:
    other = Cluster.objects.create(slug="other", name="other", endpoints="http://m1:2379")
    job = start(cluster, olga, three)
    ClusterGrant.objects.create(account=olga, cluster=other, role=Role.OPERATOR)
    for name in ("job", "job_live"):
        assert browser_of(olga).get(reverse(name, args=["other", job.pk])).status_code == 404


@pytest.mark.parametrize(
    ("hashes", "level"),
    [
        ([(1, 5), (1, 5)], "ok"),
        ([(1, 5), (2, 5)], "danger"),
        ([(1, 5), (2, 6)], "warn"),
        ([(1, 5), (None, 0)], "warn"),
        ([(None, 0)], "danger"),
    ],
)
def test_hashes_compare_at_one_compact_revision(hashes, level) -> None:
    assert verdict([MemberHash("m", h, c) for h, c in hashes])[0] == level


@pytest.mark.parametrize(
    ("newest", "compacted", "proposed"),
    [(100_000, 5, 90_000), (100, 0, 50), (100, 90, 95), (7, 6, 7), (7, 7, 0), (1, 0, 1)],
)
def test_a_proposed_compaction_is_within_the_retained_window(newest, compacted, proposed) -> None:
    assert proposed_revision(newest, compacted) == proposed
