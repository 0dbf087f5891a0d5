"""One key as every member tells it, side by side. No Django, no gRPC.

A linearizable read is confirmed by a quorum and is the same everywhere; a serializable one is
what a member has applied, which may be some revisions old (spec/kv.md R12). Whether members hold
*different* data is only told by reading all of them at one revision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.gateway.records import Key


@dataclass(frozen=True, slots=True)
class Said:
    """One answer: the store's revision then, and the key, None when it does not exist."""

    revision: int = 0
    key: Key | None = None
    failure: str = ""

    @property
    def is_answer(self) -> bool:
        return not self.failure

    @property
    def state(self) -> tuple[object, ...]:
        """What two members have to agree on."""
        key = self.key
        if key is None:
            return ("absent",)
        return key.value, key.mod_revision, key.create_revision, key.version, key.lease


@dataclass(frozen=True, slots=True)
class Reading:
    """One member: both reads, and the serializable one at the revision all were compared at."""

    label: str
    linearizable: Said
    serializable: Said
    pinned: Said


@dataclass(frozen=True, slots=True)
class Marked:
    """A reading with what is odd about it."""

    reading: Reading
    differs: bool
    is_old: bool
    behind: int
    """Revisions its serializable answer is older than the newest answer."""


def marked(readings: Sequence[Reading]) -> list[Marked]:
    newest = max(
        (said for r in readings for said in (r.linearizable, r.serializable)),
        key=lambda said: said.revision,
        default=Said(),
    )
    told = [r.pinned.state for r in readings if r.pinned.is_answer]
    most = max(told, key=told.count, default=None)
    return [_mark(r, newest, most) for r in readings]


def _mark(reading: Reading, newest: Said, most: tuple[object, ...] | None) -> Marked:
    said = reading.serializable
    behind = newest.revision - said.revision if said.is_answer else 0
    return Marked(
        reading=reading,
        differs=reading.pinned.is_answer and reading.pinned.state != most,
        is_old=behind > 0 and said.state != newest.state,
        behind=behind,
    )


def judged(rows: Sequence[Marked], pinned_at: int) -> tuple[str, str]:
    """A level and a sentence."""
    told = [row for row in rows if row.reading.pinned.is_answer]
    silent = [row.reading.label for row in rows if not row.reading.serializable.is_answer]
    unconfirmed = [
        row.reading.label
        for row in rows
        if row.reading.serializable.is_answer and not row.reading.linearizable.is_answer
    ]
    if not told:
        return "danger", "No member answered."
    if any(row.differs for row in told):
        return "danger", (
            f"The members tell different things about this key at revision {pinned_at}. "
            "Compare the hashes before anything else."
        )
    level, words = "ok", [f"At revision {pinned_at} all {len(told)} members tell the same."]
    if len(told) == 1:
        words = [f"One member told of this key at revision {pinned_at}."]
    old = [row.reading.label for row in rows if row.is_old]
    if old:
        level = "warn"
        words.append(f"Serializable reads from {', '.join(old)} still give an older version.")
    if unconfirmed:
        level = "warn"
        words.append(f"No linearizable read from {', '.join(unconfirmed)}.")
    if silent:
        level = "warn"
        words.append(f"{', '.join(silent)} did not answer.")
    return level, " ".join(words)
