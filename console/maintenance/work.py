"""Which kind of job is worked off by what, and the thread that does it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.db import connections

from console.clusters.own import OwnSignIn
from console.maintenance.jobs import Worker
from console.models import Job

WORKERS = {
    Job.Kind.DEFRAGMENT: "defragmentation.Defragmentation",
    Job.Kind.ROLLING: "defragmentation.Defragmentation",
    Job.Kind.SIZES: "sizes_job.SizesJob",
    Job.Kind.SNAPSHOT: "snapshot_job.SnapshotJob",
    Job.Kind.OPEN: "open_job.OpenJob",
}
"""Named, not imported: the modules that begin jobs are those that work them off."""


def launch(job: Job) -> None:
    """Work the job off in a thread of its own."""
    threading.Thread(target=_thread, args=(job,), name=f"job-{job.pk}", daemon=True).start()


def _thread(job: Job) -> None:
    try:
        # Somebody's own credentials are in no row: they go along, and end with the thread.
        execute(job.pk, own=job.cluster.own)
    finally:
        connections.close_all()


def execute(pk: int, hands: Any = None, own: OwnSignIn | None = None) -> None:
    """Work the job off here and now."""
    job = Job.objects.select_related("cluster", "account").get(pk=pk)
    job.cluster.own = own
    module, _, name = WORKERS[Job.Kind(job.kind)].rpartition(".")
    worker: Callable[..., Worker] = getattr(import_module(f"console.maintenance.{module}"), name)
    worker(job, hands).run()
