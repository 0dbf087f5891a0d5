"""The size scan as a job: files, live keys, history, leases; the sums are kept as rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from console.gateway import ClusterError, Reader
from console.gateway.records import Event, History, Key
from console.gateway.walk import Walk
from console.keys.paging import prefix_range
from console.maintenance.jobs import Step, Worker, stage
from console.maintenance.prefixes import Groups, rolled_up
from console.maintenance.sizes import Weight
from console.models import Cluster, Job, PrefixSize
from console.overview.health import Health, assess

EVERYTHING = prefix_range(b"")
KEYS_MAX = 5_000_000
EVENTS_MAX = 5_000_000
BLOCK_SECONDS = 5.0
PAUSE_SHARE = 0.25
"""After each page the scan rests for this share of the time the page took: it is in no hurry, and
the members have others to serve."""
SCANS_KEPT = 5

Refusal = tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Hands:
    """What the scan does things with; tests give it others."""

    look: Callable[[], Health]
    walk: Callable[[], Walk]
    window: Callable[[], tuple[int, int]]
    """The newest revision and the compact revision."""
    replay: Callable[[int, int], tuple[Iterable[Event], Callable[[], History]]]
    leases: Callable[[], int]
    pause: Callable[[float], None] = time.sleep


def hands_for(cluster: Cluster) -> Hands:
    reader = Reader(cluster)

    def window() -> tuple[int, int]:
        newest = reader.newest_revision(EVERYTHING)
        return newest, reader.compacted(EVERYTHING, newest)

    def replay(start: int, until: int) -> tuple[Iterable[Event], Callable[[], History]]:
        scan = reader.scan(EVERYTHING, start=start, until=until, seconds=BLOCK_SECONDS)
        return scan, scan.covered

    return Hands(
        look=lambda: assess(*reader.members()),
        walk=lambda: Walk(reader),
        window=window,
        replay=replay,
        leases=lambda: reader.leases(0, 0).total,
    )


def stages() -> list[Step]:
    return [
        stage("Database files", "files"),
        stage("Live keys", "live"),
        stage("Retained history", "history"),
        stage("Leases", "leases"),
    ]


class SizesJob(Worker):
    def __init__(self, job: Job, hands: Hands | None = None) -> None:
        super().__init__(job)
        self.hands = hands or hands_for(job.cluster)
        self.groups: Groups[Weight] = Groups(Weight, Weight.add)

    def work(self) -> tuple[str, str]:
        state, detail = self._stages()
        # What was counted until then is shown too, for what it is.
        self._keep()
        return state, detail

    def _stages(self) -> tuple[str, str]:
        does = (self._files, self._live, self._history, self._leases)
        for step, do in zip(self.job.steps, does, strict=True):
            refusal = self.may_not_go_on()
            if refusal:
                return refusal
            self.begin(step)
            try:
                refusal = do(step)
            except ClusterError as error:
                step["state"] = "failed"
                step["detail"] = f"{error.code}: {error.message}"
                self.save()
                return Job.State.STOPPED, f"{step['member']} could not be read."
            if refusal:
                return refusal
        return Job.State.DONE, ""

    def _files(self, step: Step) -> Refusal:
        health = self.hands.look()
        self.job.result["members"] = [
            {
                "label": row.member.label,
                "size": row.member.status.db_size_bytes,
                "in_use": row.member.status.db_in_use_bytes,
                "quota": row.member.status.db_quota_bytes,
            }
            for row in health.rows
            if row.member.status
        ]
        told = len(self.job.result["members"])
        self.finish(step, f"{told} of {len(health.rows)} members")
        return None

    def _live(self, step: Step) -> Refusal:
        walk = self.hands.walk()
        began = time.monotonic()
        for page in walk:
            for key in page:
                self._add_live(key)
            step["total"] = walk.total
            refusal = self.count(step, walk.seen)
            if refusal:
                return refusal
            if walk.seen >= KEYS_MAX:
                self.finish(step, f"the first {walk.seen} of {walk.total} keys: no more are read")
                return None
            self.hands.pause(PAUSE_SHARE * (time.monotonic() - began))
            began = time.monotonic()
        step["done"] = step["total"] = walk.seen
        self.job.result["revision"] = walk.revision
        again = f", in {walk.restarts + 1} pictures: compacted meanwhile" if walk.restarts else ""
        self.finish(step, f"at revision {walk.revision}{again}")
        return None

    def _add_live(self, key: Key) -> None:
        self.groups.of(key.key).live(key)

    def _history(self, step: Step) -> Refusal:
        newest, compacted = self.hands.window()
        result = self.job.result
        result["newest"], result["compacted"] = newest, compacted
        step["total"] = newest - max(compacted, 1)
        events = 0
        at, first = compacted + 1, compacted + 1
        result["read_to"] = at - 1
        while at <= newest:
            replayed, covered = self.hands.replay(at, newest)
            began = time.monotonic()
            for event in replayed:
                self.groups.of(event.key).change(event)
                events += 1
                refusal = self.count(step, max(0, event.revision - first))
                if refusal:
                    result["read_to"] = event.revision - 1
                    return refusal
            read_to = covered().read_to
            if read_to < at and not covered().is_complete:
                self.finish(step, f"read up to revision {at - 1} of {newest}: no answer came")
                return None
            result["read_to"], at = read_to, read_to + 1
            if events >= EVENTS_MAX and at <= newest:
                self.finish(step, f"read up to revision {read_to} of {newest}: no more are read")
                return None
            self.hands.pause(PAUSE_SHARE * (time.monotonic() - began))
        step["done"] = step["total"]
        self.finish(step, f"{events} changes since revision {max(1, compacted)}")
        return None

    def _leases(self, step: Step) -> Refusal:
        self.job.result["leases"] = self.hands.leases()
        self.finish(step, f"{self.job.result['leases']} leases")
        return None

    def _keep(self) -> None:
        self.job.result["depth"] = self.groups.depth
        PrefixSize.objects.filter(job=self.job).delete()
        PrefixSize.objects.bulk_create(
            [
                PrefixSize(job=self.job, prefix=prefix, **asdict(weight))
                for prefix, weight in self.groups.sums.items()
            ]
        )
        old = Job.objects.filter(cluster=self.job.cluster, kind=Job.Kind.SIZES)
        for pk in old.exclude(pk=self.job.pk).values_list("pk", flat=True)[SCANS_KEPT - 1 :]:
            PrefixSize.objects.filter(job_id=pk).delete()


FIELDS = tuple(asdict(Weight()))


def weights_of(job: Job, depth: int) -> dict[bytes, Weight]:
    """The kept sums for groups of this depth."""
    fine: dict[bytes, Weight] = {}
    for row in PrefixSize.objects.filter(job=job):
        values: dict[str, Any] = {name: getattr(row, name) for name in FIELDS}
        fine[bytes(row.prefix)] = Weight(**values)
    return rolled_up(fine, depth, Weight, Weight.add)
