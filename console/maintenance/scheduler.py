"""What the console does by itself: snapshots that are due, uploads whose days are over.

One thread of the process that serves.

The schedule is a row: `next_at` is moved on by whoever takes a turn, in one UPDATE that only one
of several consoles wins, and it outlives a restart. A turn that was missed is taken at once.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.utils.timezone import now

from console.maintenance import backup_index, jobs, uploads
from console.maintenance.snapshot_job import archive, start
from console.models import Job, SnapshotSchedule
from console.serving.ticker import Ticker

TICK_SECONDS = 5.0
BUSY_SECONDS = 60.0

log = logging.getLogger(__name__)


def scheduler() -> Ticker:
    """Saves what is due, removes what is past."""

    def turn() -> None:
        take_turns()
        remove_past_uploads()

    return Ticker("scheduler", lambda: TICK_SECONDS, turn)


def remove_past_uploads(at: datetime | None = None) -> int:
    """Backups that were sent here and whose days are over; how many files those were."""
    there, removed = archive(), 0
    for upload in uploads.past(there.directory, at or now()):
        backup_index.drop(upload.path)
        upload.path.unlink(missing_ok=True)
        log.info("removed %s of %s: its days are over", upload.path.name, upload.cluster)
        removed += 1
    return removed


def take_turns(at: datetime | None = None) -> list[Job]:
    """Begin every snapshot that is due. What is begun runs in threads of its own."""
    moment = at or now()
    begun = []
    for schedule in SnapshotSchedule.objects.filter(is_on=True, next_at__lte=moment):
        following = moment + timedelta(minutes=schedule.every_minutes)
        won = SnapshotSchedule.objects.filter(pk=schedule.pk, next_at=schedule.next_at).update(
            next_at=following
        )
        if not won:
            continue
        try:
            begun.append(start(schedule.cluster, None, is_scheduled=True))
        except jobs.Busy:
            again = moment + timedelta(seconds=BUSY_SECONDS)
            SnapshotSchedule.objects.filter(pk=schedule.pk).update(next_at=again)
    return begun
