"""Health over time: charts of the console's own samples, with what was done to the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from time import time
from typing import Any

from django.db.models import Count, F, Max, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.models import AuditRow, Cluster, LeaderChange, Sample
from console.roles import Role
from console.sampling import charts, series
from console.sampling.series import Seen, Span
from console.sampling.thinning import COARSE_SECONDS, FINE_SECONDS
from console.templatetags.console import bytesize

SPANS = {
    "1h": ("1 hour", 3600, 30),
    "6h": ("6 hours", 6 * 3600, 180),
    "24h": ("24 hours", 24 * 3600, 600),
    "7d": ("7 days", 7 * 86400, 3600),
    "90d": ("90 days", 90 * 86400, 12 * 3600),
}
"""Words, seconds, seconds of a slot: 120 to 180 slots a chart."""
DEFAULT_SPAN = "1h"
MARKS_MAX = 60
CHANGES_SHOWN = 8


@allow(Role.VIEWER)
def over_time(request: HttpRequest) -> HttpResponse:
    context = {
        "title": "Health over time",
        "rail_current": "overview",
        "crumbs": [("Cluster", None), ("Overview", "overview"), ("Over time", None)],
        **chart_context(request.cluster, request.GET.get("span", DEFAULT_SPAN)),
    }
    return render(request, "sampling/page.html", context)


@allow(Role.VIEWER)
def over_time_live(request: HttpRequest) -> HttpResponse:
    """The region alone, for the poll."""
    context = chart_context(request.cluster, request.GET.get("span", DEFAULT_SPAN))
    return render(request, "sampling/_charts.html", context)


def chart_context(cluster: Cluster, wanted: str) -> dict[str, Any]:
    name = wanted if wanted in SPANS else DEFAULT_SPAN
    _, seconds, slot = SPANS[name]
    until = (int(time()) // slot + 1) * slot
    span = Span(until - seconds, until, slot)
    seen = samples(cluster, span)
    changes = list(
        LeaderChange.objects.filter(cluster=cluster, second__gte=span.first)
        .exclude(before="")
        .order_by("second")
    )
    size = series.over_members("size", seen, span, lambda one: one.db_size_bytes)
    return {
        "span": name,
        "spans": [(key, words) for key, (words, _, _) in SPANS.items()],
        "width": charts.WIDTH,
        "height": charts.HEIGHT,
        "charts": drawn(seen, span, size),
        "time_ticks": [
            charts.Tick(charts.x_of(second, span), moment(second, seconds))
            for second in charts.time_ticks(span)
        ],
        "marks": marks(cluster, span, changes),
        "changes": list(reversed(changes))[:CHANGES_SHOWN],
        "changes_count": len(changes),
        "findings": series.findings(seen, span, [change.second for change in changes]),
        "is_sampled": not cluster.asks_sign_in,
        "has_samples": bool(seen),
    }


def samples(cluster: Cluster, span: Span) -> list[Seen]:
    """The worst of each member in each slot."""
    rows = (
        Sample.objects.filter(
            cluster=cluster,
            grain_seconds__in=(FINE_SECONDS, COARSE_SECONDS),  # the index begins with these
            second__gte=span.first,
            second__lt=span.until,
        )
        .annotate(slot=F("second") / span.slot_seconds)
        .values("slot", "member")
        .annotate(
            looks=Count("pk"),
            up=Count("pk", filter=Q(is_up=True)),
            label=Max("name"),
            size=Max("db_size_bytes"),
            in_use=Max("db_in_use_bytes"),
            quota=Max("db_quota_bytes"),
            newest=Max("revision"),
            lag=Max("applied_lag"),
            trip=Max("round_trip_ms"),
        )
        .order_by("slot")
    )
    return [
        Seen(
            row["slot"] * span.slot_seconds,
            row["member"],
            row["label"],
            row["up"] > 0,
            row["size"],
            row["in_use"],
            row["quota"],
            row["newest"],
            row["lag"],
            row["trip"],
            row["up"] < row["looks"],
        )
        for row in rows
    ]


def drawn(seen: list[Seen], span: Span, size: series.Line) -> list[charts.Chart]:
    quota = max((one.db_quota_bytes for one in seen), default=0)
    limits = []
    if quota > 0:
        limits = [
            (series.QUOTA_SHARE * quota, f"95 % of the quota of {bytesize(quota)}"),
            (float(quota), f"quota {bytesize(quota)}"),
        ]
    in_use = series.over_members("in use", seen, span, lambda one: one.db_in_use_bytes)
    revisions = series.over_members("revisions", seen, span, lambda one: one.revision)
    last = max((one.second for one in seen), default=0)
    members = len({one.member for one in seen if one.second == last})
    return [
        charts.draw("Largest database", [size, in_use], span, in_bytes, limits, is_binary=True),
        charts.draw(
            "Revisions per second", [series.rate(revisions, span.slot_seconds)], span, plain_number
        ),
        charts.draw(
            "Applied lag, entries",
            series.by_member(seen, span, lambda one: one.applied_lag),
            span,
            plain_number,
        ),
        charts.draw(
            "Round trip from the console",
            series.by_member(seen, span, lambda one: one.round_trip_ms),
            span,
            in_milliseconds,
            [(series.SLOW_MS, "150 ms: slow")],
        ),
        charts.draw(
            "Free share of the database file",
            series.by_member(seen, span, series.free_percent),
            span,
            in_percent,
            [(100 * (1 - series.FRAGMENTED_SHARE), "50 %: fragmented")],
        ),
        charts.draw(
            "Members that answer",
            [series.answering("answer", seen, span)],
            span,
            plain_number,
            [(float(members), f"all {members}: below it etcdMembersDown")],
        ),
    ]


def in_bytes(value: float) -> str:
    return bytesize(int(value))


def in_milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 or value == 0 else f"{value:.1f} ms"


def in_percent(value: float) -> str:
    return f"{value:.0f} %"


def plain_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def moment(second: int, span_seconds: int) -> str:
    """In UTC, as everywhere."""
    at = datetime.fromtimestamp(second, UTC)
    return at.strftime("%H:%M") if span_seconds <= 86400 else at.strftime("%m-%d")


def marks(cluster: Cluster, span: Span, changes: Iterable[LeaderChange]) -> list[charts.Mark]:
    """What was done through this console, and changes of leader, on the time line."""
    first = datetime.fromtimestamp(span.first, UTC)
    rows = AuditRow.objects.filter(cluster=cluster, at__gte=first).order_by("-id")[:MARKS_MAX]
    found = [
        charts.Mark(
            charts.x_of(int(row.at.timestamp()), span),
            f"{row.at:%m-%d %H:%M:%S} {row.account_name}: {row.action} {row.target[:60]}",
            "audit",
        )
        for row in rows
    ]
    found += [
        charts.Mark(
            charts.x_of(change.second, span),
            f"{datetime.fromtimestamp(change.second, UTC):%m-%d %H:%M:%S} leader: "
            f"{change.before} → {change.after}, term {change.term}",
            "leader",
        )
        for change in changes
    ]
    return found
