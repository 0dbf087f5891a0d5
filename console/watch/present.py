"""Events as the list shows them: one source for the page and the socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.template.loader import render_to_string

from console.gateway import Event
from console.gateway.feed import Feed, Taken
from console.keys.addresses import query_url
from console.keys.diff import Diff, compare_bytes
from console.models import Cluster
from console.watch.scope import Scope

DIFF_BYTES_MAX = 8 * 1024
"""Values larger than this together are not compared in the list, but on a page of their own."""


@dataclass(frozen=True, slots=True)
class Row:
    event: Event
    diff: Diff | None


def row_of(event: Event) -> Row:
    if event.size_bytes > DIFF_BYTES_MAX:
        return Row(event, None)
    before = event.prev.value if event.prev else None
    return Row(event, compare_bytes(before, event.now.value if event.now else None))


def rows_html(cluster: Cluster, taken: Taken) -> str:
    """What is put on top of the list: newest first."""
    context = {
        "cluster": cluster,
        "rows": [row_of(event) for event in reversed(taken.events)],
        "left_out": taken.left_out,
        "gaps": taken.gaps,
        "oob": True,
    }
    return render_to_string("watch/_rows.html", context)


def chip_html(feed: Feed) -> str:
    return render_to_string("watch/_chip.html", {"connection": feed.connection, "feed": feed})


def counts_html(context: dict[str, Any]) -> str:
    return render_to_string("watch/_counts.html", context | {"oob": True})


def export_url(path: str, scope: Scope, first: int, last: int) -> str:
    return query_url(path, **scope.query, **{"from": first, "to": last})
