"""Defragmentation as a job: a row in the database, worked off by a thread of this process.

The row is the truth. The thread writes each step before it takes it and after; it looks at the
row for a wish to abort, and at the account for the right to go on, between steps. A job whose
console died stays `running` without a heartbeat: it is marked `interrupted` when the console
starts again, and the step it was in says that nobody knows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillBusy
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, connections, transaction
from django.utils.timezone import now

from console.audit.record import Outcome, client_address, etcdctl_for, recorded
from console.clusters.own import OwnSignIn
from console.gateway import ClusterError, Denied, FateUnknown, Writer, upkeep
from console.maintenance.plan import Sizes, gate, next_of
from console.models import Account, Cluster, Job
from console.overview.health import Health, Member, assess
from console.roles import Role

HEARTBEAT_SECONDS = 3.0
SILENT_SECONDS_MAX = 30.0
"""A running job without a heartbeat for this long has no console any more."""

GATE_LOOKS_MAX = 120
GATE_LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hands:
    """What a job does things with; tests give it others."""

    look: Callable[[], Health]
    defragment: Callable[[Member], Sizes]
    pause: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Actor:
    """Stands for the request in audit rows: it is long over when the steps are taken."""

    user: Account | None
    cluster: Cluster
    META: dict[str, str]


class Busy(Exception):
    """Another job runs on this cluster."""


def create(request: Any, kind: str, members: list[Member], threshold_percent: int = 0) -> Job:
    """The row of a job that is about to run. Raises Busy when another one does."""
    mark_interrupted(older_than_seconds=SILENT_SECONDS_MAX)
    steps = [
        {
            "id": member.hex_id,
            "member": member.label,
            "state": "waiting",
            "before": [member.status.db_size_bytes, member.status.db_in_use_bytes]
            if member.status
            else None,
            "after": None,
            "detail": "",
        }
        for member in members
    ]
    try:
        with transaction.atomic():
            return Job.objects.create(
                kind=kind,
                cluster=request.cluster,
                account=request.user,
                account_name=request.user.username,
                address=client_address(request),
                steps=steps,
                threshold_percent=threshold_percent,
                heartbeat_at=now(),
            )
    except IntegrityError:
        raise Busy from None


def launch(job: Job) -> None:
    """Work the job off in a thread of its own."""
    threading.Thread(target=_thread, args=(job,), name=f"job-{job.pk}", daemon=True).start()


def _thread(job: Job) -> None:
    try:
        # Somebody's own credentials are in no row: they go along, and end with the thread.
        execute(job.pk, own=job.cluster.own)
    finally:
        connections.close_all()


def execute(pk: int, hands: Hands | None = None, own: OwnSignIn | None = None) -> None:
    """Work the job off here and now."""
    job = Job.objects.select_related("cluster", "account").get(pk=pk)
    job.cluster.own = own
    Worker(job, hands or hands_for(job.cluster)).run()


def hands_for(cluster: Cluster) -> Hands:
    writer = Writer(cluster)
    return Hands(lambda: assess(*writer.members()), lambda one: upkeep.defragment(writer, one))


def mark_interrupted(older_than_seconds: float = 0) -> int:
    """Jobs that say they run and cannot: at the start of the console that is all of them."""
    limit = now() - timedelta(seconds=older_than_seconds)
    jobs = list(Job.objects.filter(state=Job.State.RUNNING, heartbeat_at__lte=limit))
    for job in jobs:
        for step in job.steps:
            if step["state"] == "running":
                step["state"] = "unknown"
                step["detail"] = "the console stopped meanwhile: the member may have finished"
        _close(job, Job.State.INTERRUPTED, "The console stopped while the job ran.")
    return len(jobs)


def is_silent(job: Job) -> bool:
    age = (now() - job.heartbeat_at).total_seconds()
    return job.state == Job.State.RUNNING and age > SILENT_SECONDS_MAX


def _close(job: Job, state: str, detail: str) -> None:
    for step in job.steps:
        if step["state"] in {"waiting", "gate"}:
            step["state"] = "not run"
    job.state, job.detail, job.ended_at = state, detail, now()
    job.save(update_fields=["state", "detail", "ended_at", "steps", "heartbeat_at"])


class Worker:
    """Owned by the thread that runs it."""

    def __init__(self, job: Job, hands: Hands) -> None:
        self.job = job
        self.hands = hands

    def run(self) -> None:
        try:
            state, detail = self._work()
        except Exception as error:
            log.exception("job %d", self.job.pk)
            state, detail = Job.State.STOPPED, f"An error of the console: {type(error).__name__}."
        _close(self.job, state, detail)

    def _work(self) -> tuple[str, str]:
        while waiting := [step for step in self.job.steps if step["state"] in {"waiting", "gate"}]:
            health, refusal = self._pass_gate()
            if refusal:
                return refusal
            row = next_of(health, {int(step["id"], 16) for step in waiting})
            if row is None:
                return Job.State.STOPPED, "The members left are no longer in the cluster."
            step = next(s for s in waiting if s["id"] == row.member.hex_id)
            stop = self._take(step, row.member)
            if stop:
                return Job.State.STOPPED, stop
        return Job.State.DONE, ""

    def _pass_gate(self) -> tuple[Health, tuple[str, str] | None]:
        """Look until the cluster is whole, somebody aborts, or patience ends."""
        for _ in range(GATE_LOOKS_MAX):
            health = self.hands.look()
            refusal = self._may_not_go_on()
            reasons = gate(health) if self.job.kind == Job.Kind.ROLLING else ()
            if refusal or not reasons:
                return health, refusal
            self._note_gate(reasons)
            self.hands.pause(GATE_LOOK_SECONDS)
        return health, (Job.State.STOPPED, f"The cluster did not become whole: {reasons[0]}.")

    def _note_gate(self, reasons: tuple[str, ...]) -> None:
        step = next(s for s in self.job.steps if s["state"] in {"waiting", "gate"})
        step["state"], step["detail"] = "gate", "waits: " + ", ".join(reasons)
        self._save()

    def _may_not_go_on(self) -> tuple[str, str] | None:
        """Asked again before every step: a lost role or a read-only connection ends the job."""
        fresh = Job.objects.select_related("cluster", "account").get(pk=self.job.pk)
        if fresh.abort_asked:
            return Job.State.ABORTED, "Aborted: the members left were not touched."
        role = fresh.account.role_on(fresh.cluster) if fresh.account else None
        if role is None or role < Role.OPERATOR:
            return Job.State.STOPPED, f"{fresh.account_name} is no longer operator here."
        if fresh.cluster.is_read_only:
            return Job.State.STOPPED, "The connection has become read-only."
        return None

    def _take(self, step: dict[str, Any], member: Member) -> str:
        """One member. What is returned ends the job."""
        if member.status is None:
            step["state"], step["detail"] = "failed", member.failure or "no answer"
            self._save()
            return f"{member.label} does not answer."
        before = Sizes.of(member.status)
        step["before"], step["detail"] = [before.size_bytes, before.in_use_bytes], ""
        if before.free_percent < self.job.threshold_percent:
            step["state"] = "skipped"
            step["detail"] = f"{before.free_percent} % free: below {self.job.threshold_percent} %"
            self._save()
            return ""
        step["state"] = "running"
        self._save()
        try:
            after = self._defragment(member, before)
        except ClusterError as error:
            step["state"] = _failed_as(error)
            step["detail"] = f"{error.code}: {error.message}"
            self._save()
            return f"{member.label}: {step['state']}. The members left were not touched."
        step["state"], step["after"] = "done", [after.size_bytes, after.in_use_bytes]
        self._save()
        return ""

    def _defragment(self, member: Member, before: Sizes) -> Sizes:
        job = self.job
        actor: Any = Actor(job.account, job.cluster, {"REMOTE_ADDR": job.address})
        command = defragment_command(job.cluster, member)
        with recorded(actor, "defragment member", member.label, command=command) as row:
            with ThreadPoolExecutor(1) as pool:
                future = pool.submit(self.hands.defragment, member)
                while True:
                    try:
                        after = future.result(HEARTBEAT_SECONDS)
                        break
                    except StillBusy:
                        self._save()
            row.outcome = Outcome.DONE
            row.detail = f"{before.size_bytes} to {after.size_bytes} bytes, job {job.pk}"
            return after

    def _save(self) -> None:
        self.job.heartbeat_at = now()
        self.job.save(update_fields=["steps", "heartbeat_at"])


def defragment_command(cluster: Cluster, member: Member) -> str:
    where = member.reached_at or next(iter(member.endpoints), "")
    return etcdctl_for(cluster).at(where).line("defrag")


def _failed_as(error: ClusterError) -> str:
    if isinstance(error, FateUnknown):
        return "unknown"
    return "refused" if isinstance(error, Denied) else "failed"
