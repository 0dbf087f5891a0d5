"""Old samples made fewer: of every five minutes one row a member, with the worst of what it saw."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Count, F, Max, Q

from console.models import Sample

FINE_SECONDS = 10
COARSE_SECONDS = 300
FINE_KEPT_SECONDS = 24 * 3600
COARSE_KEPT_SECONDS = 90 * 24 * 3600
SLOTS_A_TURN = 200
"""Five-minute slots thinned in one transaction: the database is not held for long."""


def thin(now: int) -> int:
    """Thin and drop what is old enough; how many rows of ten seconds went."""
    Sample.objects.filter(second__lt=now - COARSE_KEPT_SECONDS).delete()
    gone = 0
    before = (now - FINE_KEPT_SECONDS) // COARSE_SECONDS * COARSE_SECONDS
    while True:
        fine = Sample.objects.filter(grain_seconds=FINE_SECONDS, second__lt=before)
        oldest = fine.order_by("second").values_list("second", flat=True).first()
        if oldest is None:
            return gone
        first = oldest // COARSE_SECONDS * COARSE_SECONDS
        until = min(before, first + SLOTS_A_TURN * COARSE_SECONDS)
        gone += _thin_span(first, until)


def _thin_span(first: int, until: int) -> int:
    fine = Sample.objects.filter(grain_seconds=FINE_SECONDS, second__gte=first, second__lt=until)
    groups = (
        fine.annotate(slot=F("second") / COARSE_SECONDS)
        .values("cluster", "slot", "member")
        .annotate(
            seen=Count("pk"),
            up=Count("pk", filter=Q(is_up=True)),
            led=Count("pk", filter=Q(is_leader=True)),
            name=Max("name"),
            size=Max("db_size_bytes"),
            in_use=Max("db_in_use_bytes"),
            quota=Max("db_quota_bytes"),
            revision=Max("revision"),
            lag=Max("applied_lag"),
            trip=Max("round_trip_ms"),
        )
    )
    rows = [
        Sample(
            cluster_id=group["cluster"],
            second=group["slot"] * COARSE_SECONDS,
            grain_seconds=COARSE_SECONDS,
            member=group["member"],
            name=group["name"],
            # Down for most of it is down; led for most of it is the leader.
            is_up=2 * group["up"] >= group["seen"],
            is_leader=2 * group["led"] > group["seen"],
            db_size_bytes=group["size"],
            db_in_use_bytes=group["in_use"],
            db_quota_bytes=group["quota"],
            revision=group["revision"],
            applied_lag=group["lag"],
            round_trip_ms=group["trip"],
        )
        for group in groups
    ]
    with transaction.atomic():
        Sample.objects.bulk_create(rows, ignore_conflicts=True)
        return fine.delete()[0]
