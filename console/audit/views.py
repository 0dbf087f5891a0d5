"""The audit page: every write, newest first, paged by row id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render

from console.access import Who, allow
from console.models import AuditRow

PAGE_ROWS = 50
CHOICES_MAX = 200
EXPORT_CHUNK_ROWS = 500


@dataclass(frozen=True, slots=True)
class Filter:
    """What rows are asked for. Days are of UTC, the last one included."""

    words: str = ""
    outcome: str = ""
    account: str = ""
    cluster: str = ""
    action: str = ""
    since: date | None = None
    until: date | None = None
    problem: str = ""

    @classmethod
    def of(cls, request: HttpRequest) -> Filter:
        query = request.GET
        days, problem = {}, ""
        for name in ("since", "until"):
            try:
                days[name] = date.fromisoformat(query[name]) if query.get(name) else None
            except ValueError:
                days[name], problem = None, "A day is written as 2026-01-31."
        outcome = query.get("outcome", "")
        return cls(
            words=query.get("q", "")[:200],
            outcome=outcome if outcome in AuditRow.Outcome.values else "",
            account=query.get("account", "")[:200],
            cluster=query.get("cluster", "")[:200],
            action=query.get("action", "")[:200],
            since=days["since"],
            until=days["until"],
            problem=problem,
        )

    @property
    def query(self) -> str:
        """As a query string, to go on with."""
        named = {
            "q": self.words,
            "outcome": self.outcome,
            "account": self.account,
            "cluster": self.cluster,
            "action": self.action,
            "since": self.since.isoformat() if self.since else "",
            "until": self.until.isoformat() if self.until else "",
        }
        return urlencode({name: value for name, value in named.items() if value})

    @property
    def is_on(self) -> bool:
        return bool(self.query)

    def rows(self) -> QuerySet[AuditRow]:
        rows = AuditRow.objects.all()
        if self.words:
            rows = rows.filter(
                Q(account_name__icontains=self.words)
                | Q(cluster_name__icontains=self.words)
                | Q(action__icontains=self.words)
                | Q(target__icontains=self.words)
            )
        for field, value in (
            ("outcome", self.outcome),
            ("account_name", self.account),
            ("cluster_name", self.cluster),
            ("action", self.action),
        ):
            if value:
                rows = rows.filter(**{field: value})
        if self.since:
            rows = rows.filter(at__gte=datetime.combine(self.since, time.min, UTC))
        if self.until:
            end = datetime.combine(self.until, time.min, UTC) + timedelta(days=1)
            rows = rows.filter(at__lt=end)
        return rows


def _names() -> dict[str, list[str]]:
    """What there is to choose from."""
    return {
        "accounts": _distinct("account_name"),
        "clusters": _distinct("cluster_name"),
        "actions": _distinct("action"),
    }


def _distinct(field: str) -> list[str]:
    rows = AuditRow.objects.exclude(**{field: ""}).order_by(field)
    return list(rows.values_list(field, flat=True).distinct()[:CHOICES_MAX])


@allow(Who.CONSOLE_ADMIN)
def export(request: HttpRequest) -> StreamingHttpResponse:
    """Every row of the filter, one JSON object a line, newest first; read in chunks, so that the
    size of the audit is not the size of the process."""
    rows = Filter.of(request).rows().iterator(chunk_size=EXPORT_CHUNK_ROWS)
    response = StreamingHttpResponse(map(_line, rows), content_type="application/x-ndjson")
    response["Content-Disposition"] = 'attachment; filename="audit.ndjson"'
    return response


def _line(row: AuditRow) -> str:
    fields = {
        "id": row.pk,
        "at": row.at.isoformat(),
        "account": row.account_name,
        "address": row.address,
        "cluster": row.cluster_name,
        "action": row.action,
        "target": row.target,
        "command": row.command,
        # 64-bit numbers are text: a reader with floating-point numbers would change them.
        "revision_before": None if row.revision_before is None else str(row.revision_before),
        "revision_after": None if row.revision_after is None else str(row.revision_after),
        "outcome": row.outcome,
        "detail": row.detail,
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


@allow(Who.CONSOLE_ADMIN)
def audit(request: HttpRequest) -> HttpResponse:
    wanted = Filter.of(request)
    rows = wanted.rows()
    before = request.GET.get("before", "")
    if before.isdecimal():
        rows = rows.filter(id__lt=int(before))
    page = list(rows[: PAGE_ROWS + 1])
    return render(
        request,
        "audit/list.html",
        {
            "title": "Audit",
            "has_filter": True,
            "rail_current": "audit",
            "crumbs": [("Console", None), ("Audit", None)],
            "rows": page[:PAGE_ROWS],
            "older": page[PAGE_ROWS - 1].id if len(page) > PAGE_ROWS else None,
            "filter": wanted,
            "query": wanted.query,
            "outcomes": AuditRow.Outcome.choices,
            "names": _names(),
            "is_first": not before,
        },
    )
