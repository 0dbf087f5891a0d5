"""Defragmentation as a job: of one member, or of all of them in turn with a gate in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from console.audit.record import Outcome, etcdctl_for, recorded
from console.gateway import ClusterError, Denied, FateUnknown, Writer, membership, upkeep
from console.maintenance.jobs import Actor, Step, Worker
from console.maintenance.plan import Sizes, gate, next_of, successor
from console.models import Cluster, Job
from console.overview.health import Health, Member, Row, assess

GATE_LOOKS_MAX = 120
GATE_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Hands:
    """What the job does things with; tests give it others."""

    look: Callable[[], Health]
    defragment: Callable[[Member], Sizes]
    move: Callable[[Member, Member], None]
    """From the leader to another member."""
    pause: Callable[[float], None] = time.sleep


def hands_for(cluster: Cluster) -> Hands:
    writer = Writer(cluster)
    return Hands(
        look=lambda: assess(*writer.members()),
        defragment=lambda one: upkeep.defragment(writer, one),
        move=lambda leader, target: membership.move_leader(writer, leader, target),
    )


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
        self._has_moved = False

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
            target = self._successor(health, row)
            if target is not None:
                stop = self._hand_over(step, row.member, target)
                if stop:
                    return Job.State.STOPPED, stop
                continue  # the gate again: everybody has to know the new leader
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

    def _successor(self, health: Health, row: Row) -> Member | None:
        """Whom a leader hands over to before it stands still; None where nobody has to."""
        if self.job.kind != Job.Kind.ROLLING or not row.is_leader or self._has_moved:
            return None
        status = row.member.status
        if status is None or Sizes.of(status).free_percent < self.job.threshold_percent:
            return None
        return successor(health, row.member)

    def _hand_over(self, step: Step, leader: Member, target: Member) -> str:
        """Once a job: should the leadership come back, the member is taken as it is."""
        self._has_moved = True
        words = f"{leader.label} to {target.label}"
        step["state"], step["detail"] = "gate", f"hands the leadership over to {target.label}"
        self.save()
        command = etcdctl_for(self.job.cluster).at(leader.reached_at)
        line = command.line("move-leader", target.hex_id)
        try:
            with recorded(Actor.of(self.job), "move leader", words, command=line) as row:
                self.patiently(self.hands.move, leader, target)
                row.outcome, row.detail = Outcome.DONE, f"job {self.job.pk}"
        except ClusterError as error:
            step["state"] = failed_as(error)
            step["detail"] = f"leadership not moved: {error.code}: {error.message}"
            self.save()
            return f"{leader.label} could not hand the leadership over to {target.label}."
        return ""

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
