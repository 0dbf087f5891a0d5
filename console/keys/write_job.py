"""Imports and rewinds as jobs: compared where that is long, then written batch after batch.

What a job is about is in its `result`, as text where JSON would round it. Each batch leaves a row
of its own (`JobBatch`) and one in the audit. A batch in conflict is left out and the job goes on;
a call that fails ends it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from console.gateway import ClusterError, Reader, Unreachable, Writer
from console.keys import import_file
from console.keys.apply import write_batch
from console.keys.batches import BatchResult, Change, batched
from console.keys.byte_text import show
from console.keys.import_file import Source
from console.keys.interchange import BadFile
from console.keys.paging import one_key
from console.keys.plan import Plan
from console.keys.rewind import Rewind
from console.maintenance.jobs import Actor, Step, Worker, stage
from console.models import Job, JobBatch
from console.roles import Role

CONFLICTS_KEPT = 20
READS_TRIED = 4

Ended = tuple[str, str]


class _Patient(Writer):
    """A job asks again where a page would give up: a busy member is no reason to end it. Writes
    are sent once, as always."""

    def _read(self, pick, request):  # type: ignore[no-untyped-def]
        for _ in range(READS_TRIED - 1):
            try:
                return super()._read(pick, request)
            except Unreachable:
                continue
        return super()._read(pick, request)


class _KeysJob(Worker):
    needs: ClassVar[Role] = Role.EDITOR

    def __init__(self, job: Job, hands: Any = None) -> None:
        super().__init__(job)
        self.about: dict[str, Any] = job.result

    def work(self) -> Ended:
        refusal = self.may_not_go_on()
        if refusal:
            return refusal
        [step] = self.job.steps
        self.begin(step, step["total"])
        try:
            return self.go_through(step) or (Job.State.DONE, "")
        except BadFile as error:
            return Job.State.STOPPED, f"The file: {error}."
        except FileNotFoundError:
            return Job.State.STOPPED, "The file is not here any more: send it again."
        except ClusterError as error:
            return Job.State.STOPPED, f"Reading failed: {error.code}: {error.message}"

    def go_through(self, step: Step) -> Ended | None:
        raise NotImplementedError


class CompareJob(_KeysJob):
    """Changes nothing: the plan of an import or of a rewind, kept with the job."""

    def go_through(self, step: Step) -> Ended | None:
        plan = self.job_plan(step)
        if not isinstance(plan, Plan):
            return plan
        self.job.result["plan"] = plan.to_json()
        self.finish(step)
        return None

    def job_plan(self, step: Step) -> Plan | Ended:
        reader = _Patient(self.job.cluster)
        if "source" in self.about:
            source = Source.from_json(self.about["source"])
            base = reader.newest_revision(one_key(import_file.first_entry(source).key))
            found = import_plan(reader, source, base)
        else:
            rewind = Rewind.from_json(self.about["rewind"])
            found = rewind_plan(reader, rewind, reader.newest_revision(rewind.keys))
        plan = Plan(0)
        for done, so_far in found:
            plan = so_far
            refusal = self.count(step, done)
            if refusal:
                return refusal
        step["done"] = step["total"] = sum(plan.counts.values())
        return plan


def import_plan(reader: Reader, source: Source, base: int) -> Iterator[tuple[int, Plan]]:
    """The plan as it grows: how many entries are compared, and what they came to."""
    plan = Plan(base)
    yield 0, plan
    for number, (entry, now, change) in enumerate(import_file.compared(reader, source, base), 1):
        plan.with_lease += bool(entry.lease)
        if change:
            plan.add(entry.key, change.kind, change)
        else:
            plan.counts["same" if now and now.value == entry.value else "skipped"] += 1
        yield number, plan


def rewind_plan(reader: Reader, rewind: Rewind, base: int) -> Iterator[tuple[int, Plan]]:
    """The same of a rewind: how many keys were looked at."""
    plan = Plan(base)
    yield 0, plan
    for number, one in enumerate(rewind.differences(reader.part, base), 1):
        if one is None:
            plan.counts["same"] += 1
        else:
            plan.add(one.key, one.kind)
        yield number, plan


class _WriteJob(_KeysJob):
    action: ClassVar[str]

    def changes(self, reader: Reader) -> Iterator[Change]:
        raise NotImplementedError

    @property
    def target(self) -> str:
        raise NotImplementedError

    def go_through(self, step: Step) -> Ended | None:
        writer = _Patient(self.job.cluster)
        actor = Actor.of(self.job)
        for number, batch in enumerate(batched(self.changes(writer)), 1):
            result = write_batch(actor, writer, self.action, self.target, number, batch)
            keep_result(self.job, result)
            if result.state in {"failed", "unknown"}:
                return Job.State.STOPPED, _said(result)
            refusal = self.count(step, step["done"] + len(batch))
            if refusal:
                return refusal
        self.finish(step)
        return None


def _said(result: BatchResult) -> str:
    fate = " Whether it was written is not known." if result.state == "unknown" else ""
    return f"Batch {result.number} failed: {result.detail}.{fate}"


def keep_result(job: Job, result: BatchResult) -> None:
    JobBatch.objects.create(
        job=job,
        number=result.number,
        changes=result.changes,
        first=result.first,
        last=result.last,
        state=result.state,
        revision=result.revision,
        conflicts=[show(key) for key in result.conflicts[:CONFLICTS_KEPT]],
        conflicts_more=max(0, len(result.conflicts) - CONFLICTS_KEPT),
        detail=result.detail,
    )


class ImportJob(_WriteJob):
    action = "import keys"

    def run(self) -> None:
        super().run()
        Source.from_json(self.about["source"]).forget()

    @property
    def target(self) -> str:
        return str(self.about["source"]["name"])

    def changes(self, reader: Reader) -> Iterator[Change]:
        source = Source.from_json(self.about["source"])
        for _, _, change in import_file.compared(reader, source, int(self.about["base"])):
            if change:
                yield change


class RewindJob(_WriteJob):
    action = "rewind range"

    @property
    def target(self) -> str:
        rewind = Rewind.from_json(self.about["rewind"])
        return f"{rewind.said} to revision {rewind.to}"

    def changes(self, reader: Reader) -> Iterator[Change]:
        rewind = Rewind.from_json(self.about["rewind"])
        return rewind.changes(reader, int(self.about["base"]), takes_leases=self.about["leases"])


def stages(words: str, total: int) -> list[Step]:
    return [stage(words, "keys") | {"total": total}]
