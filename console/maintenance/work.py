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
    Job.Kind.DEFRAGMENT: "console.maintenance.defragmentation.Defragmentation",
    Job.Kind.ROLLING: "console.maintenance.defragmentation.Defragmentation",
    Job.Kind.SIZES: "console.maintenance.sizes_job.SizesJob",
    Job.Kind.SNAPSHOT: "console.maintenance.snapshot_job.SnapshotJob",
    Job.Kind.OPEN: "console.maintenance.open_job.OpenJob",
    Job.Kind.COMPARE: "console.keys.write_job.CompareJob",
    Job.Kind.IMPORT: "console.keys.write_job.ImportJob",
    Job.Kind.REWIND: "console.keys.write_job.RewindJob",
}
"""Named, not imported: the modules that begin jobs are those that work them off."""

SEEN_SECONDS = 1.0


def launch(job: Job) -> threading.Thread:
    """Work the job off in a thread of its own."""
    thread = threading.Thread(target=_thread, args=(job,), name=f"job-{job.pk}", daemon=True)
    thread.start()
    return thread


def launch_and_see(job: Job) -> None:
    """The same, and wait a moment: what is done by then is seen done on the page that follows."""
    thread = launch(job)
    if thread is not None:  # a launch of its own kind, in tests
        thread.join(SEEN_SECONDS)


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
    worker: Callable[..., Worker] = getattr(import_module(module), name)
    worker(job, hands).run()
