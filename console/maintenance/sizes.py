"""Why a database is big: sums by prefix, and what they say. No Django in here.

Live keys come from a walk over the keyspace, history from a replay of the retained window. Bytes
are what records take in the file (reclaim.py), so that both halves compare with the file's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from console.gateway.records import Event, Key
from console.maintenance.plan import FRAGMENTED_PERCENT, Sizes
from console.maintenance.reclaim import record_bytes

FRAGMENTED_BYTES_MIN = 16 * 1024 * 1024
"""Less free space than this is not worth a defragmentation."""
HISTORY_SHARE = 0.3
"""History beyond this share of all records is a finding."""
CHURN_MIN = 10
"""Retained versions for each live key beyond which a prefix is written too often to be kept."""
UNTOUCHED_SHARE = 0.3
QUOTA_SHARE = 0.8
FORECAST_SPAN_MIN = timedelta(hours=1)
FEW = 100
"""Below this many records or keys a prefix explains nothing."""


@dataclass(slots=True)
class Weight:
    """Of one prefix. `untouched_keys`: written once and without a lease, so nothing removes them
    by itself. `writes`: changes in the retained window."""

    live_keys: int = 0
    live_bytes: int = 0
    leased_keys: int = 0
    untouched_keys: int = 0
    old_versions: int = 0
    tombstones: int = 0
    old_bytes: int = 0
    writes: int = 0

    def add(self, other: Weight) -> None:
        self.live_keys += other.live_keys
        self.live_bytes += other.live_bytes
        self.leased_keys += other.leased_keys
        self.untouched_keys += other.untouched_keys
        self.old_versions += other.old_versions
        self.tombstones += other.tombstones
        self.old_bytes += other.old_bytes
        self.writes += other.writes

    @property
    def all_bytes(self) -> int:
        return self.live_bytes + self.old_bytes

    @property
    def retained(self) -> int:
        return self.old_versions + self.tombstones

    def live(self, key: Key) -> None:
        self.live_keys += 1
        self.live_bytes += record_bytes(key.key, key.size_bytes)
        self.leased_keys += bool(key.lease)
        self.untouched_keys += key.version == 1 and not key.lease

    def change(self, event: Event) -> None:
        """What the event superseded is history now; a delete is itself."""
        self.writes += 1
        if event.prev is not None:
            self.old_versions += 1
            self.old_bytes += record_bytes(event.key, event.prev.size_bytes)
        if event.is_delete:
            self.tombstones += 1
            self.old_bytes += record_bytes(event.key, 0)


def total(weights: Iterable[Weight]) -> Weight:
    whole = Weight()
    for one in weights:
        whole.add(one)
    return whole


@dataclass(frozen=True, slots=True)
class FileSizes:
    """One member's file, from its own Status."""

    label: str
    sizes: Sizes
    quota_bytes: int

    @property
    def quota_share(self) -> float:
        return self.sizes.size_bytes / self.quota_bytes if self.quota_bytes > 0 else 0.0

    @property
    def quota_percent(self) -> int:
        return int(100 * self.quota_share)


@dataclass(frozen=True, slots=True)
class Finding:
    """What makes the database big, and the page that does something about it.

    `action`: compact, defragment_all, keys (below `prefix`), leases, or none."""

    level: str
    said: str
    action: str = ""
    prefix: bytes = b""


def findings(
    files: Sequence[FileSizes], groups: Sequence[tuple[bytes, Weight]], window_revisions: int
) -> list[Finding]:
    """The gravest first. `groups`: prefix and weight, the heaviest first."""
    found = [*_of_files(files), *_of_history(groups, window_revisions)]
    found += [one for prefix, weight in groups for one in _of_prefix(prefix, weight, groups)]
    order = {"danger": 0, "warn": 1, "info": 2}
    return sorted(found, key=lambda one: order[one.level])


def _of_files(files: Sequence[FileSizes]) -> list[Finding]:
    found = []
    for file in files:
        if file.quota_share > QUOTA_SHARE:
            said = f"{file.label} is at {file.quota_percent} % of its quota: at 100 % writes stop."
            found.append(Finding("danger", said, "compact"))
    loose = [
        file
        for file in files
        if file.sizes.free_percent >= FRAGMENTED_PERCENT
        and file.sizes.free_bytes >= FRAGMENTED_BYTES_MIN
    ]
    if loose:
        most = max(loose, key=lambda file: file.sizes.free_bytes)
        said = (
            f"{most.sizes.free_percent} % of the file of {most.label} is free space"
            f"{f', and {len(loose) - 1} more files are loose' if len(loose) > 1 else ''}: "
            "it is given back to the disk by a defragmentation only."
        )
        found.append(Finding("warn", said, "defragment_all"))
    return found


def _of_history(groups: Sequence[tuple[bytes, Weight]], window_revisions: int) -> list[Finding]:
    whole = total(weight for _, weight in groups)
    if whole.retained < FEW or whole.old_bytes < HISTORY_SHARE * whole.all_bytes:
        return []
    percent = 100 * whole.old_bytes // whole.all_bytes
    said = (
        f"{percent} % of the records are history: {whole.old_versions} old versions and "
        f"{whole.tombstones} tombstones in {window_revisions} retained revisions. "
        "A compaction frees it; auto-compaction keeps it short."
    )
    return [Finding("warn", said, "compact")]


def _of_prefix(
    prefix: bytes, weight: Weight, groups: Sequence[tuple[bytes, Weight]]
) -> list[Finding]:
    whole = total(one for _, one in groups)
    found = []
    if weight.old_versions >= FEW and weight.old_versions >= CHURN_MIN * max(1, weight.live_keys):
        each = weight.old_versions // max(1, weight.live_keys)
        said = (
            f"is rewritten often: {weight.old_versions} old versions of {weight.live_keys} keys"
            f"{f', {each} each' if weight.live_keys else ''}. Write less often, or retain less."
        )
        found.append(Finding("info", said, "compact", prefix))
    if (
        weight.untouched_keys >= FEW
        and weight.untouched_keys >= UNTOUCHED_SHARE * whole.live_keys
        and weight.untouched_keys * 2 > weight.live_keys
    ):
        said = (
            f"holds {weight.untouched_keys} keys that were written once and have no lease: "
            "if they are temporary, a lease would remove them."
        )
        found.append(Finding("info", said, "keys", prefix))
    return found


@dataclass(frozen=True, slots=True)
class Forecast:
    """A straight line through the first and the last size known."""

    bytes_a_day: int
    seconds: float
    """Between the two."""
    days_left: int | None
    """Until the quota is reached; None when it shrinks, or there is no quota to be reached."""


def forecast(points: Sequence[tuple[datetime, int]], quota_bytes: int) -> Forecast | None:
    """From bytes in use at some times, oldest first. None when they say nothing: too few, or too
    close together to tell growth from a busy moment."""
    if len(points) < 2 or points[-1][0] - points[0][0] < FORECAST_SPAN_MIN:
        return None
    (began, first), (ended, last) = points[0], points[-1]
    seconds = (ended - began).total_seconds()
    a_day = int((last - first) * 86400 / seconds)
    left = None
    if quota_bytes > 0 and a_day > 0:
        left = max(0, quota_bytes - last) // a_day
    return Forecast(a_day, seconds, left)


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a bar 1000 wide."""

    kind: str
    x: int
    width: int


def bar(parts: Sequence[tuple[str, int]], whole: int) -> list[Segment]:
    """Pieces beside each other, in proportion; what is not nothing is at least visible."""
    segments, x = [], 0
    for kind, amount in parts:
        width = 1000 * amount // whole if whole > 0 else 0
        width = min(1000 - x, max(width, 2 if amount > 0 else 0))
        segments.append(Segment(kind, x, width))
        x += width
    return segments
