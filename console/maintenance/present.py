"""A job as its page, its poll and its socket show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.template.loader import render_to_string
from django.urls import reverse

from console.keys.addresses import query_url
from console.maintenance.jobs import is_silent
from console.maintenance.plan import Sizes
from console.models import Job

LEVELS = {
    "done": "ok",
    "running": "info",
    "gate": "warn",
    "skipped": "",
    "failed": "danger",
    "refused": "danger",
    "stopped": "danger",
    "unknown": "warn",
    "aborted": "warn",
    "interrupted": "warn",
}


RESULTS: dict[str, tuple[str, str]] = {
    Job.Kind.SIZES: ("What makes the database big", "sizes"),
    Job.Kind.SNAPSHOT: ("All snapshots", "snapshots"),
    Job.Kind.OPEN: ("Look into it", "browse_snapshot"),
    # These have pages of their own (keys/views_job.py).
    Job.Kind.COMPARE: ("", ""),
    Job.Kind.IMPORT: ("", ""),
    Job.Kind.REWIND: ("", ""),
}
"""Jobs of stages, and where what they found is shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step as shown."""

    member: str
    id: str
    state: str
    level: str
    detail: str
    before: Sizes | None
    after: Sizes | None
    done: int = 0
    total: int = 0

    @property
    def share(self) -> float:
        """How much of it is settled, 0 to 1."""
        if self.state == "running":
            return min(1.0, self.done / self.total) if self.total else 0.0
        return 0.0 if self.state in {"waiting", "gate"} else 1.0

    @property
    def before_bytes(self) -> int | None:
        return self.before.size_bytes if self.before else None

    @property
    def after_bytes(self) -> int | None:
        return self.after.size_bytes if self.after else None

    @property
    def freed_bytes(self) -> int:
        if self.before is None or self.after is None:
            return 0
        return max(0, self.before.size_bytes - self.after.size_bytes)


def steps_of(job: Job) -> list[Step]:
    return [
        Step(
            member=step["member"],
            id=step["id"],
            state=step["state"],
            level=LEVELS.get(step["state"], ""),
            detail=step["detail"],
            before=Sizes(*step["before"]) if step["before"] else None,
            after=Sizes(*step["after"]) if step["after"] else None,
            done=step.get("done", 0),
            total=step.get("total", 0),
        )
        for step in job.steps
    ]


def job_context(job: Job) -> dict[str, Any]:
    steps = steps_of(job)
    words, name = RESULTS.get(job.kind, ("", ""))
    state = str(job.State.INTERRUPTED) if is_silent(job) else job.state
    settled = sum(1 for step in steps if step.state not in {"waiting", "gate", "running"})
    return {
        "job": job,
        "state": state,
        "level": LEVELS.get(state, ""),
        "steps": steps,
        "settled": settled,
        "percent": int(100 * sum(step.share for step in steps) / len(steps)) if steps else 0,
        "freed_bytes": sum(step.freed_bytes for step in steps),
        "is_running": state == Job.State.RUNNING,
        "unit": "stage" if job.kind in RESULTS else "member",
        "counts_bytes": job.kind == Job.Kind.SNAPSHOT,
        "result_words": words,
        "result_url": _result_url(job, name),
    }


def _result_url(job: Job, name: str) -> str:
    url = reverse(name, args=[job.cluster.slug]) if name else ""
    return query_url(url, file=job.steps[0]["member"]) if job.kind == Job.Kind.OPEN else url


def fragment(job: Job) -> str:
    """The live region to be swapped in by its id."""
    return render_to_string("maintenance/_job.html", job_context(job) | {"oob": True})
