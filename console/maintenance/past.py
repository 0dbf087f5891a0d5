"""What the console's own samples (console/sampling) know of revisions and sizes in the past."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db.models import Max
from django.utils.timezone import now

from console.models import Cluster, Sample

KEPT_HOURS = (24, 1)
FORECAST_DAYS = 7


def revisions_before(cluster: Cluster) -> list[tuple[str, int]]:
    """Words and the revision to compact at so that the last hours stay. Where nothing was sampled
    just then, the sample before it: more stays than asked for, never less."""
    found = []
    for hours in KEPT_HOURS:
        before = int((now() - timedelta(hours=hours)).timestamp())
        samples = Sample.objects.filter(cluster=cluster, is_up=True, revision__gt=0)
        last = samples.filter(second__lte=before).order_by("-second", "-revision").first()
        if last:
            found.append((f"keep {hours} h", last.revision))
    return found


def sizes_in_use(cluster: Cluster) -> list[tuple[datetime, int]]:
    """The largest member's bytes in use, at the first and the last sample of some days."""
    since = int((now() - timedelta(days=FORECAST_DAYS)).timestamp())
    samples = Sample.objects.filter(cluster=cluster, is_up=True, second__gte=since)
    seconds = samples.order_by("second").values_list("second", flat=True)
    ends = dict.fromkeys([*seconds[:1], *seconds.reverse()[:1]])
    return [
        (
            datetime.fromtimestamp(second, UTC),
            samples.filter(second=second).aggregate(most=Max("db_in_use_bytes"))["most"],
        )
        for second in ends
    ]
