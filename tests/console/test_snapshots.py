"""Snapshots: streamed and verified, saved by a job, on a schedule, kept by retention
(spec/maintenance.md §6, spec/bbolt.md F17)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet
from django.urls import reverse
from django.utils.timezone import now

from console.clusters.own import OwnSignIn, remember
from console.gateway import ClusterError, Reader
from console.gateway.snapshots import BackupError, BackupStatus, SnapshotStream, backup_status
from console.maintenance import jobs, scheduler, snapshot_job, work
from console.maintenance.archive import Archive, ArchiveError, Kept, to_remove
from console.models import AuditRow, Cluster, ClusterGrant, Job, Snapshot, SnapshotSchedule
from console.overview.health import Member, MemberStatus, assess
from console.roles import Role
from kvserver.client import CallFailed
from kvserver.errors import Code
from kvserver.proto import rpc_pb2
from tests.console.conftest import browser_of, make_account
from tests.console.test_overview import cell, plain, sampler_forgets

ON_EVERY_SERVER = True


@pytest.fixture(autouse=True)
def directory(settings, tmp_path):
    sampler_forgets()
    settings.SNAPSHOT_DIR = tmp_path / "kept"
    return settings.SNAPSHOT_DIR


@pytest.fixture
def at_once(monkeypatch) -> None:
    monkeypatch.setattr(work, "launch", lambda job: work.execute(job.pk))


@pytest.fixture
def olga(cluster: Cluster):
    return make_account("olga", cluster, Role.OPERATOR)


def files(directory) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def test_a_snapshot_is_saved_verified_and_listed(olga, cluster, store, prefix, directory, at_once):
    revision = store.put(prefix, b"kept" * 1000)
    browser = browser_of(olga)
    answer = browser.post(reverse("save_snapshot", args=["one"]))
    job = Job.objects.get()
    assert answer.headers["Location"] == reverse("job", args=["one", job.pk])
    assert (job.state, [step["state"] for step in job.steps]) == ("done", ["done"] * 3)
    row = Snapshot.objects.get()
    assert (row.state, row.revision, row.account_name) == ("verified", revision, "olga")
    path = directory / row.file
    data = path.read_bytes()
    assert len(data) == row.size_bytes and len(data) % 512 == 32  # N4
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]  # N1
    assert hashlib.sha256(data[:-32]).hexdigest() == row.sha256
    assert backup_status(str(path)).total_keys == row.total_keys
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    audit = AuditRow.objects.get()
    assert (audit.action, audit.outcome, audit.account_name) == ("save snapshot", "done", "olga")
    assert " snapshot save one-" in audit.command
    text = browser.get(reverse("snapshots", args=["one"])).text
    assert cell(text, "State") == ["verified"]
    assert row.sha256[:12] in text


def test_a_read_only_connection_may_be_backed_up(olga, cluster, store, prefix, at_once) -> None:
    store.put(prefix, b"x")
    cluster.is_read_only = True
    cluster.save()
    browser_of(olga).post(reverse("save_snapshot", args=["one"]))
    assert Job.objects.get().state == "done"


def member(i: int, *, learner: bool = False, up: bool = True, leader: int = 1) -> Member:
    status = MemberStatus("3.6.0", 1, 1, 0, leader, 2, 50, 50, 9, learner, ())
    where = f"http://m{i}:1" if up else ""
    return Member(i, f"m{i}", learner, (), status if up else None, "gone", reached_at=where)


def test_a_follower_that_is_well_is_asked_first() -> None:
    health = assess([member(1), member(2, up=False), member(3, learner=True), member(4)])
    assert snapshot_job.source(health).id == 4
    assert snapshot_job.source(health, "1").id == 1
    assert snapshot_job.source(health, "2") is None
    assert snapshot_job.source(assess([member(1), member(3, learner=True)])).id == 1
    assert snapshot_job.source(assess([member(2, up=False)])) is None


class Messages:
    """A member's stream, as it should be or not."""

    def __init__(self, blobs: list[bytes], fails: Exception | None = None) -> None:
        self._blobs, self._fails = blobs, fails
        self.is_cancelled = False

    def stream(self, endpoint, pick, request, seconds):
        return self

    def __iter__(self) -> Iterator[rpc_pb2.SnapshotResponse]:
        left = 100
        for blob in self._blobs:
            left = max(0, left - len(blob))
            yield rpc_pb2.SnapshotResponse(blob=blob, remaining_bytes=left)
        if self._fails:
            raise self._fails

    def fan_out(self, endpoints, pick, request, seconds):
        header = rpc_pb2.ResponseHeader(member_id=4, revision=9)
        return [SimpleNamespace(response=rpc_pb2.StatusResponse(header=header), failure=None)]

    def cancel(self) -> None:
        self.is_cancelled = True


def read(blobs: list[bytes], fails: Exception | None = None) -> tuple[bytes, SnapshotStream]:
    stream = SnapshotStream(SimpleNamespace(_client=Messages(blobs, fails)), member(4))
    return b"".join(stream), stream


DATA = [b"a" * 60, b"b" * 40]
DIGEST = hashlib.sha256(b"".join(DATA)).digest()


def test_the_digest_is_verified_on_the_way() -> None:
    data, stream = read([*DATA, DIGEST])
    assert data == b"".join(DATA) + DIGEST
    assert (stream.total_bytes, stream.sent_bytes) == (132, 132)
    assert stream.sha256 == DIGEST.hex()


@pytest.mark.parametrize(
    ("blobs", "why"),
    [
        ([*DATA, b"x" * 32], "do not have the digest"),
        (DATA, "ended after 100 of 132 bytes"),
        (DATA[:1], "ended after 60 of 132 bytes"),
        ([b"a" * 60, b"b" * 41], "more than the announced"),
        ([], "ended before it began"),
    ],
)
def test_what_is_not_what_its_digest_says_is_no_snapshot(blobs, why) -> None:
    with pytest.raises(ClusterError, match=why) as raised:
        read(blobs)
    assert raised.value.code == "DATA_LOSS"


def test_a_stream_that_breaks_is_the_servers_failure() -> None:
    broken = CallFailed(Code.UNAVAILABLE, "connection reset", "e", was_sent=True)
    with pytest.raises(ClusterError, match="connection reset"):
        read(DATA, broken)


class Fake:
    """A stream in hand."""

    revision, sha256 = 9, "ab"

    def __init__(self, chunks: list, total: int = 132) -> None:
        self.chunks, self.total_bytes, self.is_cancelled = chunks, total, False

    def __iter__(self) -> Iterator[bytes]:
        for one in self.chunks:
            if isinstance(one, Exception):
                raise one
            if callable(one):
                one()
                continue
            yield one

    def cancel(self) -> None:
        self.is_cancelled = True


def sound(path: str) -> BackupStatus:
    return BackupStatus(1, 9, 5, 100, "3.6.0")


def save(cluster, olga, stream, inspect=sound, **options) -> Job:
    account = None if options.get("is_scheduled") else olga
    job = jobs.create_for(cluster, account, Job.Kind.SNAPSHOT, snapshot_job.stages())
    if options.get("is_scheduled"):
        Job.objects.filter(pk=job.pk).update(account_name=snapshot_job.SCHEDULE)
    hands = snapshot_job.Hands(lambda: member(4), lambda one: stream, inspect)
    work.execute(job.pk, hands)
    job.refresh_from_db()
    return job


def test_a_broken_stream_leaves_no_file(cluster, olga, directory) -> None:
    stream = Fake([b"a" * 60, ClusterError("UNAVAILABLE", "connection reset", "e")])
    job = save(cluster, olga, stream)
    assert (job.state, job.detail) == (
        "stopped",
        "Nothing was kept: UNAVAILABLE: connection reset.",
    )
    assert [step["state"] for step in job.steps] == ["failed", "not run", "not run"]
    assert files(directory) == []
    assert Snapshot.objects.get().state == "failed"
    assert AuditRow.objects.get().outcome == "failed"
    assert stream.is_cancelled


def test_a_file_that_cannot_be_read_back_is_not_kept(cluster, olga, directory) -> None:
    def unsound(path: str) -> BackupStatus:
        raise BackupError("corrupt image, page 3: used twice")

    job = save(cluster, olga, Fake([b"a" * 132]), unsound)
    assert "corrupt image, page 3" in job.detail
    assert [step["state"] for step in job.steps] == ["done", "failed", "not run"]
    assert files(directory) == []
    assert Snapshot.objects.get().state == "failed"


def test_it_stops_when_it_is_asked_to(cluster, olga, directory, monkeypatch) -> None:
    monkeypatch.setattr(jobs, "TELL_SECONDS", 0.0)
    stream = Fake([b"a" * 60, lambda: Job.objects.update(abort_asked=True), b"b" * 40])
    job = save(cluster, olga, stream)
    assert (job.state, job.detail) == ("aborted", "Stopped as asked.")
    assert job.steps[0]["state"] == "aborted"
    assert files(directory) == []
    assert stream.is_cancelled


def test_a_full_disk_is_said_before_it_is_full(cluster, olga, directory, monkeypatch) -> None:
    monkeypatch.setattr(Archive, "free_bytes", lambda self: 1000)
    job = save(cluster, olga, Fake([b"a" * 132]))
    assert "the snapshot needs 132 bytes and 1000 are free" in job.detail
    assert files(directory) == []


def test_a_lost_role_stops_ones_own_and_not_the_schedules(cluster, olga, directory) -> None:
    ClusterGrant.objects.update(role=Role.EDITOR)
    assert save(cluster, olga, Fake([b"a" * 132])).state == "stopped"
    assert save(cluster, olga, Fake([b"a" * 132]), is_scheduled=True).state == "done"
    assert Snapshot.objects.first().is_scheduled
    assert AuditRow.objects.first().account_name == "schedule"


def test_a_restart_of_the_console_fails_what_was_being_written(cluster, olga, directory) -> None:
    """No half file stays, and a schedule does not wait a whole interval for the next."""
    schedule = SnapshotSchedule.objects.create(
        cluster=cluster, is_on=True, every_minutes=1440, next_at=now() + timedelta(days=1)
    )
    job = jobs.create_for(cluster, None, Job.Kind.SNAPSHOT, snapshot_job.stages())
    job.steps[0]["state"] = "running"
    job.save()
    row = Snapshot.objects.create(cluster=cluster, file="one/half.db", is_scheduled=True)
    (directory / "one").mkdir(parents=True)
    (directory / "one" / "half.db.part").write_bytes(b"half")
    jobs.mark_interrupted()
    snapshot_job.discard_unfinished()
    job.refresh_from_db()
    row.refresh_from_db()
    schedule.refresh_from_db()
    assert job.state == "interrupted"
    assert [step["state"] for step in job.steps] == ["interrupted", "not run", "not run"]
    assert (row.state, row.detail) == ("failed", "the console stopped while it was written")
    assert files(directory) == []
    assert schedule.next_at < now() + timedelta(minutes=16)


DAY = datetime(2026, 1, 31, 12, tzinfo=UTC)


def aged(*days: int) -> list[Kept]:
    return [Kept(day, DAY - timedelta(days=day)) for day in days]


@pytest.mark.parametrize(
    ("kept", "count", "days", "removed"),
    [
        (aged(0, 1, 2, 3), 2, 0, [2, 3]),
        (aged(3, 1, 2, 0), 2, 0, [2, 3]),
        (aged(0, 1, 2, 3), 10, 2, [3]),
        (aged(5, 9), 10, 2, [9]),  # the newest stays whatever its age
        (aged(5), 0, 1, []),
        ([], 3, 3, []),
    ],
)
def test_retention_counts_and_ages_and_spares_the_last(kept, count, days, removed) -> None:
    assert to_remove(kept, count, days, DAY) == removed


def test_retention_removes_files_after_a_good_one_only(cluster, olga, directory) -> None:
    SnapshotSchedule.objects.create(cluster=cluster, is_on=True, keep_count=2)
    for _ in range(3):
        assert save(cluster, olga, Fake([b"a" * 132]), is_scheduled=True).state == "done"
    assert len(files(directory)) == 2
    assert [row.state for row in Snapshot.objects.all()] == ["verified", "verified", "removed"]
    removed = AuditRow.objects.filter(action="remove snapshot")
    assert [row.target for row in removed] == [Snapshot.objects.last().file]
    bad = Fake([ClusterError("UNAVAILABLE", "gone", "e")])
    save(cluster, olga, bad, is_scheduled=True)
    assert len(files(directory)) == 2
    text = browser_of(olga).get(reverse("snapshots", args=["one"])).text
    assert cell(text, "State")[0].startswith("failed")


def test_without_a_schedule_nothing_is_removed(cluster, olga, directory) -> None:
    SnapshotSchedule.objects.create(cluster=cluster, is_on=False, keep_count=1)
    for _ in range(2):
        save(cluster, olga, Fake([b"a" * 132]))
    assert len(files(directory)) == 2


def test_the_schedule_is_a_setting_with_limits(cluster, olga) -> None:
    browser = browser_of(olga)
    url = reverse("schedule_snapshots", args=["one"])
    form = {"is_on": "on", "every": "6", "unit": "hours", "keep_count": "4", "keep_days": "30"}
    for name, text in (("every", "0"), ("unit", "years"), ("keep_count", "0"), ("keep_days", "-1")):
        answer = browser.post(url, form | {name: text})
        assert answer.status_code == 422, name
        assert "error" in answer.text
    assert not SnapshotSchedule.objects.exists()
    assert browser.post(url, form).status_code == 302
    schedule = SnapshotSchedule.objects.get()
    assert (schedule.is_on, schedule.every_minutes, schedule.account_name) == (True, 360, "olga")
    assert schedule.next_at <= now()  # there is none yet: at once
    audit = AuditRow.objects.get()
    assert (audit.action, audit.detail) == ("schedule snapshots", "every 6 hours, keep 4, 30 days")
    browser.post(url, {name: text for name, text in form.items() if name != "is_on"})
    assert SnapshotSchedule.objects.get().next_at is None


def test_no_schedule_where_nobody_is_there_to_sign_in(cluster, olga, monkeypatch) -> None:
    monkeypatch.setenv("KEYDECK_ENCRYPTION_KEY", Fernet.generate_key().decode())
    cluster.asks_sign_in = True
    cluster.save()
    browser = browser_of(olga)
    session = browser.session
    remember(session, cluster, OwnSignIn("olga", "hers"))
    session.save()
    form = {"is_on": "on", "every": "6", "unit": "hours", "keep_count": "4"}
    answer = browser.post(reverse("schedule_snapshots", args=["one"]), form)
    assert answer.status_code == 422
    assert "nobody is there when a scheduled snapshot is due" in answer.text
    assert not SnapshotSchedule.objects.exists()


def test_a_turn_is_taken_once_and_the_next_is_an_interval_later(cluster, monkeypatch) -> None:
    begun = []
    monkeypatch.setattr(work, "launch", lambda job: begun.append(job.pk))
    moment = now()
    schedule = SnapshotSchedule.objects.create(
        cluster=cluster, is_on=True, every_minutes=60, next_at=moment - timedelta(hours=5)
    )
    assert len(scheduler.take_turns(moment)) == 1
    schedule.refresh_from_db()
    assert schedule.next_at == moment + timedelta(minutes=60)  # what was missed is taken once
    assert scheduler.take_turns(moment) == []
    SnapshotSchedule.objects.update(next_at=moment)
    assert scheduler.take_turns(moment) == []  # one is being saved: a little later
    schedule.refresh_from_db()
    assert schedule.next_at == moment + timedelta(seconds=scheduler.BUSY_SECONDS)
    Job.objects.update(state="done")
    SnapshotSchedule.objects.update(is_on=False, next_at=moment)
    assert scheduler.take_turns(moment) == []
    assert len(begun) == 1


def test_two_consoles_take_one_turn(cluster, monkeypatch) -> None:
    """The other one moved `next_at` on between our look and our update."""
    monkeypatch.setattr(work, "launch", lambda job: None)
    moment = now()
    SnapshotSchedule.objects.create(cluster=cluster, is_on=True, next_at=moment)
    stale = list(SnapshotSchedule.objects.all())
    SnapshotSchedule.objects.update(next_at=moment + timedelta(hours=1))
    monkeypatch.setattr(SnapshotSchedule.objects, "filter", _first_stale(stale))
    assert scheduler.take_turns(moment) == []
    assert not Job.objects.exists()


def _first_stale(stale):
    real = SnapshotSchedule.objects.filter
    calls = []

    def filtered(**wanted):
        calls.append(wanted)
        return stale if len(calls) == 1 else real(**wanted)

    return filtered


def test_a_scheduled_one_that_failed_is_tried_sooner(cluster, olga) -> None:
    schedule = SnapshotSchedule.objects.create(
        cluster=cluster, is_on=True, every_minutes=1440, next_at=now() + timedelta(days=1)
    )
    save(cluster, olga, Fake([ClusterError("UNAVAILABLE", "gone", "e")]), is_scheduled=True)
    schedule.refresh_from_db()
    assert schedule.next_at < now() + timedelta(minutes=16)


def test_files_stay_in_their_directory(tmp_path) -> None:
    archive = Archive(tmp_path / "kept")
    for name in ("../outside.db", "/etc/passwd", "one/../../outside.db"):
        with pytest.raises(ArchiveError, match="not in the snapshot directory"):
            archive.path(name)


def test_a_file_that_is_gone_is_said_and_not_offered(cluster, olga, directory) -> None:
    save(cluster, olga, Fake([b"a" * 132]))
    row = Snapshot.objects.get()
    browser = browser_of(olga)
    (directory / row.file).unlink()
    assert "its file is gone" in plain(browser.get(reverse("snapshots", args=["one"])).text)
    assert browser.post(reverse("download_saved", args=["one", row.pk])).status_code == 404


def test_another_clusters_snapshot_is_not_there(cluster, olga) -> None:
    save(cluster, olga, Fake([b"a" * 132]))
    other = Cluster.objects.create(slug="other", name="other", endpoints="http://m1:1")
    ClusterGrant.objects.create(account=olga, cluster=other, role=Role.OPERATOR)
    url = reverse("download_saved", args=["other", Snapshot.objects.get().pk])
    assert browser_of(olga).post(url).status_code == 404


def test_a_real_members_stream_is_what_the_tools_read(cluster, store, prefix, tmp_path) -> None:
    revision = store.put(prefix, b"x" * 5000)
    [found], _ = Reader(cluster).members()
    stream = SnapshotStream(Reader(cluster), found)
    path = tmp_path / "one.db"
    path.write_bytes(b"".join(stream))
    assert path.stat().st_size == stream.total_bytes
    assert stream.revision == revision
    assert backup_status(str(path)).revision == revision
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(BackupError, match="expected sha256"):
        backup_status(str(path))


def test_a_member_that_is_another_by_now_is_not_taken_for_it(cluster) -> None:
    [found], _ = Reader(cluster).members()
    wrong = Member(77, "m", False, (), found.status, reached_at=found.reached_at)
    with pytest.raises(ClusterError, match="answers, not 4d"):
        SnapshotStream(Reader(cluster), wrong)
