"""The console's own memory of its clusters' health: no Prometheus needed.

Every ten seconds one row a member, kept for a day; older ones are thinned to one in five minutes
and kept for ninety days. A connection that asks people for their own credentials has none to look
with, and is left out. Runs in a thread of the process that serves.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, time

from django.db import connections

from console.models import Cluster, LeaderChange, Sample
from console.overview.health import Health
from console.overview.sampler import sampler
from console.sampling.thinning import thin
from console.serving.ticker import Ticker

SAMPLE_SECONDS = 10
THIN_EVERY_SECONDS = 300.0
CLUSTERS_AT_ONCE = 8


class Turns:
    """One look at every cluster, and now and then the thinning."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(CLUSTERS_AT_ONCE, thread_name_prefix="sample")
        self._thinned_at = float("-inf")

    def __call__(self) -> None:
        record_all(self._pool)
        if monotonic() - self._thinned_at > THIN_EVERY_SECONDS:
            thin(int(time()))
            self._thinned_at = monotonic()


def recorder() -> Ticker:
    """Looks at round moments, so that the samples of a restart line up with those before it."""
    return Ticker("recorder", lambda: SAMPLE_SECONDS - time() % SAMPLE_SECONDS, Turns())


def record_all(pool: ThreadPoolExecutor) -> None:
    """One sample of every cluster, asked at once: a dead one holds nobody up."""
    second = int(time()) // SAMPLE_SECONDS * SAMPLE_SECONDS
    clusters = list(Cluster.objects.filter(asks_sign_in=False))
    found = pool.map(_look, clusters)
    for cluster, health in zip(clusters, found, strict=True):
        if health is not None:
            record(cluster, health, second)


def _look(cluster: Cluster) -> Health | None:
    try:
        return sampler.snapshot(cluster).health
    except Exception:
        # A connection that cannot even be tried, for a secret that was lost: said on its pages.
        return None
    finally:
        connections.close_all()


def record(cluster: Cluster, health: Health, second: int) -> None:
    """Rows of one sample, and the change of leader that it shows."""
    Sample.objects.bulk_create(_rows(cluster, health, second), ignore_conflicts=True)
    if health.leader is None:
        return  # nobody leads or nobody says: the change is told when somebody does
    leader = health.leader.label
    last = LeaderChange.objects.filter(cluster=cluster).first()
    if last is None or last.after != leader:
        LeaderChange.objects.get_or_create(
            cluster=cluster,
            term=health.term,
            after=leader,
            defaults={"second": second, "before": last.after if last else ""},
        )


def _rows(cluster: Cluster, health: Health, second: int) -> Iterable[Sample]:
    for row in health.rows:
        member, status = row.member, row.member.status
        sample = Sample(
            cluster=cluster,
            second=second,
            grain_seconds=SAMPLE_SECONDS,
            member=member.hex_id,
            name=member.label,
            is_up=status is not None,
            is_leader=row.is_leader,
        )
        if status is not None:
            sample.db_size_bytes = status.db_size_bytes
            sample.db_in_use_bytes = status.db_in_use_bytes
            sample.db_quota_bytes = status.db_quota_bytes
            sample.revision = status.revision
            sample.applied_lag = status.applied_lag
            sample.round_trip_ms = 1000 * (member.round_trip_seconds or 0)
        yield sample
