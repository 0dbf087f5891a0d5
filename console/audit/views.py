"""The audit page: every write, newest first, paged by row id."""

from __future__ import annotations

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import Who, allow
from console.models import AuditRow

PAGE_ROWS = 50


@allow(Who.CONSOLE_ADMIN)
def audit(request: HttpRequest) -> HttpResponse:
    rows = AuditRow.objects.all()
    words = request.GET.get("q", "")
    outcome = request.GET.get("outcome", "")
    if words:
        rows = rows.filter(
            Q(account_name__icontains=words)
            | Q(cluster_name__icontains=words)
            | Q(action__icontains=words)
            | Q(target__icontains=words)
        )
    if outcome in AuditRow.Outcome.values:
        rows = rows.filter(outcome=outcome)
    before = request.GET.get("before", "")
    if before.isdecimal():
        rows = rows.filter(id__lt=int(before))
    page = list(rows[: PAGE_ROWS + 1])
    return render(
        request,
        "audit/list.html",
        {
            "title": "Audit",
            "rail_current": "audit",
            "crumbs": [("Console", None), ("Audit", None)],
            "rows": page[:PAGE_ROWS],
            "older": page[PAGE_ROWS - 1].id if len(page) > PAGE_ROWS else None,
            "q": words,
            "outcome": outcome,
            "outcomes": AuditRow.Outcome.choices,
            "is_first": not before,
        },
    )
