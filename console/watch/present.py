"""Events as the list shows them, and where the watch stands: one source for page and socket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from django.template.loader import render_to_string
from django.urls import reverse

from console.gateway import Event
from console.gateway.feed import Connection, Feed, Taken
from console.history.changes import describe
from console.keys.byte_text import show
from console.keys.diff import Diff
from console.models import Cluster
from console.watch.cursors import Cursor, Place, pack
from console.watch.scope import EVERYTHING, Pairs, Scope, label

DIFF_BYTES_MAX = 8 * 1024
DIFF_BYTES_PER_FRAME = 32 * 1024
"""Values larger than this together are not compared in the list, but on a page of their own."""

KEY_BYTES_MAX = 2 * 1024

WORST_FIRST = ("stopped", "resuming", "connecting", "live")


@dataclass(frozen=True, slots=True)
class Row:
    event: Event
    diff: Diff | None

    @property
    def is_long(self) -> bool:
        """Too long a key to stand in a list, in links and in labels: a frame has a size."""
        return len(self.event.key) > KEY_BYTES_MAX

    @property
    def name(self) -> str:
        key = self.event.key
        return f"{show(key[:KEY_BYTES_MAX])}…" if self.is_long else show(key)


@dataclass(frozen=True, slots=True)
class Chip:
    """`live`: on, poll or off, the colours of the live chip."""

    live: str
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A range as the page lists it, and the address of the same watch without it."""

    label: str
    without_url: str | None
    refusal: str = ""


def rows_of(events: Iterable[Event]) -> list[Row]:
    """Newest first."""
    rows: list[Row] = []
    left = DIFF_BYTES_PER_FRAME
    for event in reversed(list(events)):
        rows.append(Row(event, describe(event, min(left, DIFF_BYTES_MAX))))
        left = max(0, left - event.size_bytes)
    return rows


def rows_html(cluster: Cluster, taken: Taken) -> str:
    """What is put on top of the list."""
    context = {
        "cluster": cluster,
        "rows": rows_of(taken.events),
        "left_out": taken.left_out,
        "gaps": [(gap, label(gap.keys)) for gap in taken.gaps],
        "oob": True,
    }
    return render_to_string("watch/_rows.html", context)


def chips_html(feed: Feed) -> str:
    gap = max(part.compacted for part in feed.parts)
    context = {"chips": chips_of([(p.keys, p.connection) for p in feed.parts]), "gap": gap}
    return render_to_string("watch/_chips.html", context)


def chips_of(parts: Sequence[tuple[Any, Connection]]) -> list[Chip]:
    """One chip when all ranges fare alike; otherwise one for each that is worse off, by name."""
    said = {_said(connection) for _, connection in parts}
    if len(said) == 1:
        return [Chip(*said.pop())]
    worst = sorted(parts, key=lambda part: WORST_FIRST.index(part[1].state))
    is_live = [part for part in worst if part[1].state == "live"]
    chips = [
        Chip(_said(connection)[0], f"{label(keys)} {_said(connection)[1]}")
        for keys, connection in worst
        if connection.state != "live"
    ]
    if is_live:
        chips.insert(0, Chip("on", f"{len(is_live)} of {len(parts)} live"))
    return chips


def _said(connection: Connection) -> tuple[str, str]:
    return {
        "live": ("on", "live"),
        "resuming": ("poll", f"resuming from {connection.revision}"),
        "stopped": ("off", f"stopped: {connection.why}"),
        "connecting": ("poll", "connecting"),
    }[connection.state]


@dataclass(frozen=True, slots=True)
class Counts:
    """What stands above the list. `waiting`: held back by a pause, which holds `kept`."""

    rate: int
    waiting: int
    kept: int
    passed_over: int
    is_paused: bool


def counts_html(counts: Counts, place: Place, export: str | None) -> str:
    context = {"counts": counts, "place": place, "packed": pack(place), "export_url": export}
    return render_to_string("watch/_counts.html", {**context, "oob": True})


def behind(place: Place, taken: Taken) -> Place:
    """Where a browser stands that has been shown what was taken."""
    creates, puts, deletes = place.counted
    total = taken.total
    return Place(
        tuple(Cursor(keys, revision) for keys, revision in taken.reached),
        place.since,
        (creates + total.creates, puts + total.puts, deletes + total.deletes),
    )


def url(path: str, pairs: Pairs) -> str:
    query = urlencode(pairs, safe="/:", quote_via=quote)
    return f"{path}?{query}" if query else path


def export_url(cluster: Cluster, scope: Scope, first: int, last: int) -> str | None:
    """What was seen, as a file; None while that is nothing."""
    if last < first:
        return None
    more = [("from", str(first)), ("to", str(last))]
    return url(reverse("watch_export", args=[cluster.slug]), scope.query(start=False) + more)


def asked_of(cluster: Cluster, scope: Scope, refused: dict[Any, str]) -> list[Asked]:
    """The ranges as a list that can be shortened. `refused`: by disjoint range."""
    page = reverse("watch", args=[cluster.slug])
    return [
        Asked(
            label(keys),
            url(page, scope.query(without=keys)) if scope.asked else None,
            next((why for each, why in refused.items() if keys.start in each), ""),
        )
        for keys in scope.asked or (EVERYTHING,)
    ]
