"""Saving a snapshot to the directory as a job: streamed, verified, named; then retention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from django.conf import settings
from django.utils.timezone import now

from console.audit.record import Outcome, etcdctl_for, note, recorded
from console.gateway import ClusterError, Reader
from console.gateway.snapshots import BackupError, BackupStatus, SnapshotStream, backup_status
from console.maintenance import backup_index, work
from console.maintenance.archive import Archive, ArchiveError, Kept, to_remove
from console.maintenance.jobs import Actor, Step, Worker, create_for, stage
from console.models import Account, Cluster, Job, Snapshot, SnapshotSchedule
from console.overview.health import Health, Member
from console.overview.sampler import sampler

SCHEDULE = "schedule"
RETRY_MINUTES = 15


class Stream(Protocol):
    revision: int
    total_bytes: int
    sha256: str

    def __iter__(self) -> Iterator[bytes]: ...
    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Hands:
    """What the job does things with; tests give it others."""

    choose: Callable[[], Member | None]
    stream: Callable[[Member], Stream]
    inspect: Callable[[str], BackupStatus] = backup_status


def hands_for(cluster: Cluster) -> Hands:
    reader = Reader(cluster)
    return Hands(
        lambda: source(sampler.snapshot(cluster).health), lambda one: SnapshotStream(reader, one)
    )


def archive() -> Archive:
    return Archive(settings.SNAPSHOT_DIR)


def source(health: Health, wanted: str = "") -> Member | None:
    """Who is asked: the member wanted, else a follower that is well, else whoever answers.
    Learners come last: those before 3.4.28 refuse (spec/maintenance.md N6)."""
    rows = [row for row in health.rows if row.member.status and row.member.reached_at]
    if wanted:
        return next((row.member for row in rows if row.member.hex_id == wanted), None)
    rows.sort(key=lambda row: (row.member.is_learner, int(row.level), row.is_leader))
    return rows[0].member if rows else None


def stages() -> list[Step]:
    return [
        stage("Saved", "save"),
        stage("Verified", "verify"),
        stage("Older ones removed", "retain"),
    ]


def start(
    cluster: Cluster, account: Account | None, *, address: str = "", is_scheduled: bool = False
) -> Job:
    """Raises Busy while another one is being saved."""
    job = create_for(cluster, account, Job.Kind.SNAPSHOT, stages(), address=address)
    if is_scheduled:
        job.account_name = SCHEDULE
        job.save(update_fields=["account_name"])
    work.launch(job)
    return job


class SnapshotJob(Worker):
    def __init__(self, job: Job, hands: Hands | None = None) -> None:
        super().__init__(job)
        self.hands = hands or hands_for(job.cluster)
        self.archive = archive()
        self.is_scheduled = job.account_name == SCHEDULE

    def run(self) -> None:
        super().run()
        if self.is_scheduled and self.job.state == Job.State.STOPPED:
            retry_sooner(self.job.cluster)

    def may_not_go_on(self) -> tuple[str, str] | None:
        """A schedule is the console's own: it does not end with the account that set it."""
        if not self.is_scheduled:
            return super().may_not_go_on()
        asked = Job.objects.filter(pk=self.job.pk, abort_asked=True).exists()
        return (Job.State.ABORTED, self.aborted_words()) if asked else None

    def work(self) -> tuple[str, str]:
        discard_unfinished(self.job.cluster)
        refusal = self.may_not_go_on()
        if refusal:
            return refusal
        save, verify, retain = self.job.steps
        self.begin(save)
        member = self.hands.choose()
        if member is None:
            return Job.State.STOPPED, "No member answers."
        snapshot = self._row(member)
        try:
            stopped = self._save(snapshot, member, save, verify)
        except (ClusterError, ArchiveError, BackupError) as error:
            self._failed(snapshot, _words(error))
            return Job.State.STOPPED, f"Nothing was kept: {_words(error)}."
        except BaseException:
            self._failed(snapshot, "an error of the console")
            raise
        if stopped:
            return stopped
        self.begin(retain)
        removed = retain_only(self.job.cluster, Actor.of(self.job))
        self.finish(retain, f"{removed} removed" if removed else "none")
        return Job.State.DONE, ""

    def _row(self, member: Member) -> Snapshot:
        slug = self.job.cluster.slug
        return Snapshot.objects.create(
            cluster=self.job.cluster,
            file=f"{slug}/{slug}-{now():%Y%m%dT%H%M%SZ}-{self.job.pk}.db",
            is_scheduled=self.is_scheduled,
            account_name=self.job.account_name,
            member=member.label,
        )

    def _save(
        self, snapshot: Snapshot, member: Member, save: Step, verify: Step
    ) -> tuple[str, str] | None:
        command = etcdctl_for(self.job.cluster).at(member.reached_at)
        with recorded(
            Actor.of(self.job),
            "save snapshot",
            snapshot.file,
            command=command.line("snapshot", "save", snapshot.file.rpartition("/")[2]),
        ) as row:
            row.account_name = self.job.account_name
            stream = self.hands.stream(member)
            try:
                self.archive.check_space(stream.total_bytes)
                save["detail"] = f"from {member.label}"
                self.begin(save, stream.total_bytes)
                part = self.archive.write(snapshot.file, self._counted(stream, save))
            except Stopped as stopped:
                self.archive.discard(snapshot.file)
                row.outcome, row.detail = Outcome.FAILED, stopped.words
                self._failed(snapshot, stopped.words)
                return stopped.state, stopped.words
            finally:
                stream.cancel()
            self.finish(save, save["detail"])
            self.begin(verify)
            status: BackupStatus = self.patiently(self.hands.inspect, str(part))
            self.archive.give_name(part, snapshot.file)
            snapshot.state = Snapshot.State.VERIFIED
            snapshot.size_bytes = stream.total_bytes
            snapshot.sha256 = stream.sha256
            snapshot.revision, snapshot.total_keys = status.revision, status.total_keys
            snapshot.save()
            self.finish(verify, f"digest right, {status.total_keys} records readable")
            row.outcome, row.revision_after = Outcome.DONE, status.revision
            row.detail = f"{stream.total_bytes} bytes, sha256 {stream.sha256}"
        return None

    def _counted(self, stream: Stream, step: Step) -> Iterator[bytes]:
        done = 0
        for chunk in stream:
            done += len(chunk)
            refusal = self.count(step, done)
            if refusal:
                raise Stopped(*refusal)
            yield chunk

    def _failed(self, snapshot: Snapshot, words: str) -> None:
        self.archive.discard(snapshot.file)
        snapshot.state, snapshot.detail = Snapshot.State.FAILED, words
        snapshot.save()


class Stopped(Exception):
    """Asked to end in the middle of something."""

    def __init__(self, state: str, words: str) -> None:
        super().__init__(words)
        self.state, self.words = state, words


def _words(error: Exception) -> str:
    if isinstance(error, ClusterError):
        return f"{error.code}: {error.message}"
    return str(error)


def discard_unfinished(cluster: Cluster | None = None) -> None:
    """Rows and files of snapshots whose job ended with the console. The caller knows that none
    is being written: it holds the lane, or the console is just starting."""
    rows = Snapshot.objects.filter(state=Snapshot.State.WRITING)
    for row in rows.filter(cluster=cluster) if cluster else rows:
        archive().discard(row.file)
        row.state, row.detail = Snapshot.State.FAILED, "the console stopped while it was written"
        row.save()
        if row.is_scheduled:
            retry_sooner(row.cluster)


def retain_only(cluster: Cluster, actor: Any) -> int:
    """Remove what the cluster's schedule no longer keeps; how many that were."""
    schedule = SnapshotSchedule.objects.filter(cluster=cluster, is_on=True).first()
    if schedule is None:
        return 0
    verified = Snapshot.objects.filter(cluster=cluster, state=Snapshot.State.VERIFIED)
    kept = [Kept(row.pk, row.taken_at) for row in verified]
    removed = 0
    for pk in to_remove(kept, schedule.keep_count, schedule.keep_days, now()):
        row = Snapshot.objects.get(pk=pk)
        backup_index.drop(archive().path(row.file))
        was_there = archive().remove(row.file)
        row.state, row.removed_at = Snapshot.State.REMOVED, now()
        row.detail = "by retention" if was_there else "its file was gone before"
        row.save()
        detail = f"by retention: keep {schedule.keep_count}"
        detail += f", {schedule.keep_days} days" if schedule.keep_days else ""
        note(
            actor,
            "remove snapshot",
            row.file,
            cluster=cluster,
            detail=detail,
            account_name=SCHEDULE,
        )
        removed += 1
    return removed


def retry_sooner(cluster: Cluster) -> None:
    """After a scheduled snapshot that failed: not a whole interval later."""
    schedule = SnapshotSchedule.objects.filter(cluster=cluster, is_on=True).first()
    if schedule and schedule.next_at:
        soon = now() + timedelta(minutes=min(schedule.every_minutes, RETRY_MINUTES))
        if soon < schedule.next_at:
            SnapshotSchedule.objects.filter(pk=schedule.pk).update(next_at=soon)
