"""Level 3 of the danger ladder (console.md §5): what a plan page asks before it acts."""

from __future__ import annotations

from django.http import HttpRequest

WRONG_NAME = "This is not the cluster's name: nothing was done."


def is_confirmed(request: HttpRequest) -> bool:
    """Where the connection is marked production, its name has been typed."""
    cluster = request.cluster  # type: ignore[attr-defined]
    return not cluster.is_production or request.POST.get("confirm", "").strip() == cluster.name
