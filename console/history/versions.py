"""The versions of one key and the window the store keeps, ready for a page. No Django in here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from console.gateway.records import History, Key

BAR_WIDTH = 1000
COMPACTED_WIDTH = 120
"""The part of the bar that stands for everything compacted: it has no scale."""
TICKS_MAX = 400


@dataclass(frozen=True, slots=True)
class Version:
    """One row. `held` is what the key held from `revision` on, None when it was deleted.
    `state` is current, old or deleted; `kind` what happened: create, put, delete, or kept: how
    the key stood when the store was compacted."""

    revision: int
    kind: str
    state: str
    held: Key | None
    older: int
    """The revision of the version before, 0 when that is not known."""


def versions(history: History, baseline: Key | None, *, is_newest_known: bool) -> list[Version]:
    """Newest first. `baseline`: the key as of the compact revision, when it existed then."""
    rows: list[Version] = []
    older = 0
    if baseline is not None and not history.left_out:
        rows.append(Version(baseline.mod_revision, "kept", "old", baseline, 0))
        older = baseline.mod_revision
    for event in history.events:
        state = "deleted" if event.is_delete else "old"
        rows.append(Version(event.revision, event.kind, state, event.now, older))
        older = event.revision
    rows.reverse()
    if rows and is_newest_known and rows[0].state == "old":
        first = rows[0]
        rows[0] = Version(first.revision, first.kind, "current", first.held, first.older)
    return rows


@dataclass(frozen=True, slots=True)
class Window:
    """What the store still has: revisions from `first` to `newest`, and where on a bar of
    BAR_WIDTH something happened."""

    compacted: int
    newest: int
    ticks: tuple[int, ...]

    @property
    def first(self) -> int:
        return self.compacted + 1

    @property
    def bar_start(self) -> int:
        return COMPACTED_WIDTH if self.compacted else 0

    @property
    def bar_width(self) -> int:
        return BAR_WIDTH - self.bar_start


def window(compacted: int, newest: int, revisions: Iterable[int] = ()) -> Window:
    start = COMPACTED_WIDTH if compacted else 0
    span = max(1, newest - compacted)
    inside = (r for r in revisions if compacted < r <= newest)
    places = {start + (r - compacted) * (BAR_WIDTH - start - 4) // span for r in inside}
    return Window(compacted, newest, tuple(sorted(places))[-TICKS_MAX:])
