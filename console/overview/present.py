"""The live region's context and its fragments: one source for page, poll and socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zlib import crc32

from django.template.loader import render_to_string

from console.models import Cluster
from console.overview.health import Health, Row, assess
from console.overview.leading import leads_words
from console.overview.sampler import Snapshot, sampler


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A row as shown: a member that is silent shows what it said last, marked as old."""

    row: Row
    shown: Any
    seen_seconds: float | None

    @property
    def is_stale(self) -> bool:
        return self.row.member.status is None and self.shown is not None

    @property
    def element_id(self) -> str:
        member = self.row.member
        return f"member-{member.hex_id or crc32(' '.join(member.endpoints).encode())}"

    @property
    def in_use_percent(self) -> float:
        return _percent(self.shown.db_in_use_bytes, self._scale) if self.shown else 0

    @property
    def size_percent(self) -> float:
        return _percent(self.shown.db_size_bytes, self._scale) if self.shown else 0

    @property
    def _scale(self) -> int:
        """The quota where it is known, else the file itself."""
        return self.shown.db_quota_bytes or self.shown.db_size_bytes


def _percent(part: int, whole: int) -> float:
    return round(min(100.0, 100 * part / whole), 1) if whole > 0 else 0


def live_context(cluster: Cluster, snapshot: Snapshot) -> dict[str, Any]:
    health = told(cluster, snapshot)
    rows = [member_row(row, snapshot) for row in health.rows]
    known = [row.shown for row in rows if row.shown and not row.is_stale]
    return {
        "health": health,
        "rows": rows,
        "largest": max(known, key=lambda status: status.db_size_bytes, default=None),
        "taken_at": snapshot.taken_at,
    }


def told(cluster: Cluster, snapshot: Snapshot) -> Health:
    """What the members said, with what this console remembers of who led."""
    health = snapshot.health
    leads = leads_words(cluster, health)
    members = [row.member for row in health.rows]
    return assess(members, snapshot.list_failure, leads=leads) if leads else health


def health_now(cluster: Cluster) -> tuple[Health, list[MemberRow]]:
    """For pages beside the overview: the same sentence, and rows that remember the silent."""
    snapshot = sampler.snapshot(cluster)
    health = told(cluster, snapshot)
    return health, [member_row(row, snapshot) for row in health.rows]


def member_row(row: Row, snapshot: Snapshot) -> MemberRow:
    last = snapshot.last_status.get(row.member.id)
    shown = row.member.status or (last.status if last else None)
    return MemberRow(row, shown, snapshot.seen_seconds.get(row.member.id))


def fragments(context: dict[str, Any]) -> dict[str, str]:
    """The region in pieces by element id, each ready to be swapped in out of band."""
    pieces = {
        "health-sentence": render_to_string("overview/_sentence.html", context | {"oob": True}),
        "figures": render_to_string("overview/_figures.html", context | {"oob": True}),
        "looked-at": render_to_string("overview/_looked_at.html", context | {"oob": True}),
    }
    for row in context["rows"]:
        pieces[row.element_id] = render_to_string(
            "overview/_member.html", {"row": row, "oob": True}
        )
    return pieces


def table(context: dict[str, Any]) -> str:
    """All member rows at once, for when the membership itself changed."""
    return render_to_string("overview/_members.html", context | {"oob": True})
