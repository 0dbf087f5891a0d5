"""Defragmentation as a job: of one member, or of all of them in turn with a gate in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from console.audit.record import Outcome, etcdctl_for, recorded
from console.gateway import ClusterError, Denied, FateUnknown, Writer, upkeep
from console.maintenance.jobs import Actor, Step, Worker
from console.maintenance.plan import Sizes, gate, next_of
from console.models import Cluster, Job
from console.overview.health import Health, Member, assess

GATE_LOOKS_MAX = 120
GATE_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Hands:
    """What the job does things with; tests give it others."""

    look: Callable[[], Health]
    defragment: Callable[[Member], Sizes]
    pause: Callable[[float], None] = time.sleep


def hands_for(cluster: Cluster) -> Hands:
    writer = Writer(cluster)
    return Hands(lambda: assess(*writer.members()), lambda one: upkeep.defragment(writer, one))


def steps_of(members: list[Member]) -> list[Step]:
    """One a member, all of them waiting."""
    return [
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


class Defragmentation(Worker):
    def __init__(self, job: Job, hands: Hands | None = None) -> None:
        super().__init__(job)
        self.hands = hands or hands_for(job.cluster)

    def aborted_words(self) -> str:
        return "Aborted: the members left were not touched."

    def work(self) -> tuple[str, str]:
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
            refusal = self.may_not_go_on()
            reasons = gate(health) if self.job.kind == Job.Kind.ROLLING else ()
            if refusal or not reasons:
                return health, refusal
            self._note_gate(reasons)
            self.hands.pause(GATE_LOOK_SECONDS)
        return health, (Job.State.STOPPED, f"The cluster did not become whole: {reasons[0]}.")

    def _note_gate(self, reasons: tuple[str, ...]) -> None:
        step = next(s for s in self.job.steps if s["state"] in {"waiting", "gate"})
        step["state"], step["detail"] = "gate", "waits: " + ", ".join(reasons)
        self.save()

    def _take(self, step: Step, member: Member) -> str:
        """One member. What is returned ends the job."""
        if member.status is None:
            step["state"], step["detail"] = "failed", member.failure or "no answer"
            self.save()
            return f"{member.label} does not answer."
        before = Sizes.of(member.status)
        step["before"], step["detail"] = [before.size_bytes, before.in_use_bytes], ""
        if before.free_percent < self.job.threshold_percent:
            step["state"] = "skipped"
            step["detail"] = f"{before.free_percent} % free: below {self.job.threshold_percent} %"
            self.save()
            return ""
        step["state"] = "running"
        self.save()
        try:
            after = self._defragment(member, before)
        except ClusterError as error:
            step["state"] = failed_as(error)
            step["detail"] = f"{error.code}: {error.message}"
            self.save()
            return f"{member.label}: {step['state']}. The members left were not touched."
        step["state"], step["after"] = "done", [after.size_bytes, after.in_use_bytes]
        self.save()
        return ""

    def _defragment(self, member: Member, before: Sizes) -> Sizes:
        job = self.job
        command = defragment_command(job.cluster, member)
        with recorded(Actor.of(job), "defragment member", member.label, command=command) as row:
            after: Sizes = self.patiently(self.hands.defragment, member)
            row.outcome = Outcome.DONE
            row.detail = f"{before.size_bytes} to {after.size_bytes} bytes, job {job.pk}"
            return after


def defragment_command(cluster: Cluster, member: Member) -> str:
    where = member.reached_at or next(iter(member.endpoints), "")
    return etcdctl_for(cluster).at(where).line("defrag")


def failed_as(error: ClusterError) -> str:
    if isinstance(error, FateUnknown):
        return "unknown"
    return "refused" if isinstance(error, Denied) else "failed"
