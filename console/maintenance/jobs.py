"""Jobs: rows in the database, each worked off by a thread of this process (work.py).

The row is the truth. The thread writes each step before it takes it and after; it looks at the
row for a wish to abort, and at the account for the right to go on, between steps. A job whose
console died stays `running` without a heartbeat: it is marked `interrupted` when the console
starts again, and the step it was in says that nobody knows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillBusy
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from django.db import IntegrityError, transaction
from django.utils.timezone import now

from console.audit.record import client_address
from console.models import Account, Cluster, Job
from console.roles import Role

HEARTBEAT_SECONDS = 3.0
SILENT_SECONDS_MAX = 30.0
"""A running job without a heartbeat for this long has no console any more."""

TELL_SECONDS = 0.5
"""How often a stage that counts writes down how far it is."""

LANES = {
    Job.Kind.SIZES: Job.Lane.SCAN,
    Job.Kind.SNAPSHOT: Job.Lane.SNAPSHOT,
    Job.Kind.OPEN: Job.Lane.OPEN,
    # One at a time: what is written by one would be a conflict of the other.
    Job.Kind.COMPARE: Job.Lane.KEYS,
    Job.Kind.IMPORT: Job.Lane.KEYS,
    Job.Kind.REWIND: Job.Lane.KEYS,
}
"""Every other kind changes members."""

READS_ONLY = frozenset({Job.Kind.SIZES, Job.Kind.SNAPSHOT, Job.Kind.OPEN, Job.Kind.COMPARE})
"""Kinds that change nothing on the cluster: a read-only connection allows them."""

log = logging.getLogger(__name__)

Step = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Actor:
    """Stands for the request in audit rows: it is long over when the steps are taken."""

    user: Account | None
    cluster: Cluster
    META: dict[str, str]

    @classmethod
    def of(cls, job: Job) -> Any:
        return cls(job.account, job.cluster, {"REMOTE_ADDR": job.address})


class Busy(Exception):
    """Another job runs in this lane of the cluster."""


def create(
    request: Any,
    kind: str,
    steps: list[Step],
    threshold_percent: int = 0,
    result: dict[str, Any] | None = None,
) -> Job:
    """The row of a job that is about to run. Raises Busy when another one does."""
    return create_for(
        request.cluster,
        request.user,
        kind,
        steps,
        threshold_percent=threshold_percent,
        address=client_address(request),
        result=result,
    )


def create_for(
    cluster: Cluster,
    account: Account | None,
    kind: str,
    steps: list[Step],
    *,
    threshold_percent: int = 0,
    address: str = "",
    result: dict[str, Any] | None = None,
) -> Job:
    mark_interrupted(older_than_seconds=SILENT_SECONDS_MAX)
    try:
        with transaction.atomic():
            return Job.objects.create(
                kind=kind,
                lane=LANES.get(Job.Kind(kind), Job.Lane.MEMBERS),
                cluster=cluster,
                account=account,
                account_name=account.username if account else "",
                address=address,
                steps=steps,
                threshold_percent=threshold_percent,
                result=result or {},
                heartbeat_at=now(),
            )
    except IntegrityError:
        raise Busy from None


def stage(name: str, identity: str) -> Step:
    """A step that counts."""
    return {
        "id": identity,
        "member": name,
        "state": "waiting",
        "detail": "",
        "done": 0,
        "total": 0,
        "before": None,
        "after": None,
    }


def mark_interrupted(older_than_seconds: float = 0) -> int:
    """Jobs that say they run and cannot: at the start of the console that is all of them."""
    limit = now() - timedelta(seconds=older_than_seconds)
    jobs = list(Job.objects.filter(state=Job.State.RUNNING, heartbeat_at__lte=limit))
    for job in jobs:
        for step in job.steps:
            if step["state"] == "running":
                step["state"], step["detail"] = _unfinished(job)
        close(job, Job.State.INTERRUPTED, "The console stopped while the job ran.")
    return len(jobs)


def _unfinished(job: Job) -> tuple[str, str]:
    if job.kind in READS_ONLY:
        return "interrupted", "the console stopped meanwhile"
    if LANES.get(Job.Kind(job.kind)) == Job.Lane.KEYS:
        return "unknown", "the console stopped meanwhile: the batch it was at may have been written"
    return "unknown", "the console stopped meanwhile: the member may have finished"


def is_silent(job: Job) -> bool:
    age = (now() - job.heartbeat_at).total_seconds()
    return job.state == Job.State.RUNNING and age > SILENT_SECONDS_MAX


def close(job: Job, state: str, detail: str) -> None:
    for step in job.steps:
        if step["state"] in {"waiting", "gate"}:
            step["state"] = "not run"
    job.state, job.detail, job.ended_at = state, detail, now()
    job.save(update_fields=["state", "detail", "ended_at", "steps", "result", "heartbeat_at"])


class Worker:
    """What every kind shares. Owned by the thread that runs it; `work` says how it ended."""

    needs: ClassVar[Role] = Role.OPERATOR

    def __init__(self, job: Job) -> None:
        self.job = job
        self._told_at = 0.0

    def run(self) -> None:
        try:
            state, detail = self.work()
        except Exception as error:
            log.exception("job %d", self.job.pk)
            state, detail = Job.State.STOPPED, f"An error of the console: {type(error).__name__}."
        for step in self.job.steps:
            if step["state"] == "running":
                step["state"] = "aborted" if state == Job.State.ABORTED else "failed"
        close(self.job, state, detail)

    def work(self) -> tuple[str, str]:
        raise NotImplementedError

    def may_not_go_on(self) -> tuple[str, str] | None:
        """Asked again before every step: a lost role or a read-only connection ends the job."""
        fresh = Job.objects.select_related("cluster", "account").get(pk=self.job.pk)
        if fresh.abort_asked:
            return Job.State.ABORTED, self.aborted_words()
        role = fresh.account.role_on(fresh.cluster) if fresh.account else None
        if role is None or role < self.needs:
            return Job.State.STOPPED, f"{fresh.account_name} is no longer {self.needs.label} here."
        if fresh.cluster.is_read_only and self.job.kind not in READS_ONLY:
            return Job.State.STOPPED, "The connection has become read-only."
        return None

    def aborted_words(self) -> str:
        return "Stopped as asked."

    def begin(self, step: Step, total: int = 0) -> None:
        step["state"], step["total"] = "running", total
        self.save()

    def count(self, step: Step, done: int) -> tuple[str, str] | None:
        """Write the figure down now and then; what is returned then ends the job."""
        step["done"] = done
        if time.monotonic() - self._told_at < TELL_SECONDS:
            return None
        self.save()
        return self.may_not_go_on()

    def finish(self, step: Step, detail: str = "") -> None:
        step["state"], step["detail"] = "done", detail
        self.save()

    def patiently(self, call: Callable[..., Any], *args: Any) -> Any:
        """The call's result, with heartbeats while it takes its time."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(call, *args)
            while True:
                try:
                    return future.result(HEARTBEAT_SECONDS)
                except StillBusy:
                    self.save()

    def save(self) -> None:
        self._told_at = time.monotonic()
        self.job.heartbeat_at = now()
        self.job.save(update_fields=["steps", "heartbeat_at"])
