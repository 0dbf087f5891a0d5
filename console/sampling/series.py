"""Samples as series for charts, and what the official alert rules would say about them.

No Django in here: rows in, values out. A point is (second, value); None is a gap, where nobody
answered or nothing was sampled (spec/observability.md §2.8).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Point = tuple[int, float | None]

QUOTA_SHARE = 0.95
"""etcdDatabaseQuotaLowSpace."""
FRAGMENTED_SHARE = 0.5
FRAGMENTED_BYTES_MIN = 100 * 1024 * 1024
"""etcdDatabaseHighFragmentationRatio: less than half in use, and worth a defragmentation."""
LEADER_CHANGES_MAX = 4
LEADER_CHANGES_SECONDS = 15 * 60
"""etcdHighNumberOfLeaderChanges: so many within so long."""
SLOW_MS = 150.0
"""etcdMemberCommunicationSlow, applied to the way from here to a member."""
GROWTH_LOOK_SECONDS = 4 * 3600
"""etcdExcessiveDatabaseGrowth: the line of the last four hours, four hours on."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One member in one slot of a chart. `is_up`: it answered at least once; `was_down`: at least
    once it did not."""

    second: int
    member: str
    name: str
    is_up: bool
    db_size_bytes: int
    db_in_use_bytes: int
    db_quota_bytes: int
    revision: int
    applied_lag: int
    round_trip_ms: float
    was_down: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """What a chart covers: `slot_seconds` wide slots from `first` to `until`, both multiples."""

    first: int
    until: int
    slot_seconds: int

    @property
    def slots(self) -> range:
        return range(self.first, self.until, self.slot_seconds)


@dataclass(frozen=True, slots=True)
class Line:
    """A series with its name."""

    name: str
    points: tuple[Point, ...]

    @property
    def largest(self) -> float:
        return max((value for _, value in self.points if value is not None), default=0.0)

    @property
    def newest(self) -> float | None:
        return next((value for _, value in reversed(self.points) if value is not None), None)


def by_member(seen: Iterable[Seen], span: Span, pick: Callable[[Seen], float]) -> list[Line]:
    """A line a member, in the order of their names."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    names: dict[str, str] = {}
    for one in seen:
        names[one.member] = one.name
        if one.is_up:
            found[one.member][one.second] = pick(one)
    return [
        Line(names[member], tuple((slot, found[member].get(slot)) for slot in span.slots))
        for member in sorted(names, key=lambda member: (names[member], member))
    ]


def over_members(
    name: str, seen: Iterable[Seen], span: Span, pick: Callable[[Seen], float]
) -> Line:
    """The largest of all members, slot by slot."""
    worst: dict[int, float] = {}
    for one in seen:
        if one.is_up:
            worst[one.second] = max(pick(one), worst.get(one.second, 0.0))
    return Line(name, tuple((slot, worst.get(slot)) for slot in span.slots))


def free_percent(one: Seen) -> float:
    """Of the file's pages, those that hold nothing."""
    return 100 * max(0, one.db_size_bytes - one.db_in_use_bytes) / max(1, one.db_size_bytes)


def answering(name: str, seen: Iterable[Seen], span: Span) -> Line:
    """How many members answered every time, slot by slot."""
    found: dict[int, int] = defaultdict(int)
    for one in seen:
        found[one.second] += one.is_up and not one.was_down
    return Line(name, tuple((slot, found.get(slot)) for slot in span.slots))


def rate(line: Line, slot_seconds: int) -> Line:
    """Growth a second from slot to slot; over a gap it is spread evenly. A fall, as after a restore
    of an older snapshot, is a gap."""
    points: list[Point] = []
    before: tuple[int, float] | None = None
    for second, value in line.points:
        if value is None or before is None:
            points.append((second, None))
        else:
            grown = value - before[1]
            points.append((second, grown / (second - before[0]) if grown >= 0 else None))
        if value is not None:
            before = (second, value)
    return Line(line.name, tuple(points))


def predicted(line: Line, seconds_on: int) -> float | None:
    """The least-squares line through the points of the last GROWTH_LOOK_SECONDS, that much later.
    None with too little to draw a line through."""
    known = [(second, value) for second, value in line.points if value is not None]
    if not known:
        return None
    newest = known[-1][0]
    recent = [(s - newest, v) for s, v in known if s >= newest - GROWTH_LOOK_SECONDS]
    if len(recent) < 3 or recent[0][0] > -GROWTH_LOOK_SECONDS / 4:
        return None
    count = len(recent)
    mean_x = sum(x for x, _ in recent) / count
    mean_y = sum(y for _, y in recent) / count
    spread = sum((x - mean_x) ** 2 for x, _ in recent)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in recent) / spread
    return mean_y + slope * (seconds_on - mean_x)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says. `rule` is its name in the official alerts."""

    rule: str
    words: str
    page: str = ""
    """The page that helps."""


def findings(seen: Sequence[Seen], span: Span, leader_changes: Sequence[int]) -> list[Finding]:
    """The rules that hold at the end of the span."""
    newest = _newest(seen)
    found = [*_full(newest), *_fragmented(newest)]
    size = over_members("size", seen, span, lambda one: one.db_size_bytes)
    quota = max((one.db_quota_bytes for one in newest), default=0)
    ahead = predicted(size, GROWTH_LOOK_SECONDS)
    if quota > 0 and ahead is not None and ahead > quota and not _full(newest):
        words = "At the growth of the last hours the database reaches its quota within 4 hours."
        found.append(Finding("etcdExcessiveDatabaseGrowth", words, "maintenance"))
    end = span.until
    recent = [second for second in leader_changes if second > end - LEADER_CHANGES_SECONDS]
    if len(recent) >= LEADER_CHANGES_MAX:
        words = f"The leader changed {len(recent)} times within 15 minutes."
        found.append(Finding("etcdHighNumberOfLeaderChanges", words, "members"))
    return found


def _newest(seen: Iterable[Seen]) -> list[Seen]:
    last: dict[str, Seen] = {}
    for one in seen:
        if one.is_up and (one.member not in last or last[one.member].second < one.second):
            last[one.member] = one
    return list(last.values())


def _full(newest: Iterable[Seen]) -> list[Finding]:
    return [
        Finding(
            "etcdDatabaseQuotaLowSpace",
            f"{one.name}: the database is at {100 * one.db_size_bytes // one.db_quota_bytes} % of "
            "its quota.",
            "maintenance",
        )
        for one in newest
        if one.db_quota_bytes > 0 and one.db_size_bytes > QUOTA_SHARE * one.db_quota_bytes
    ]


def _fragmented(newest: Iterable[Seen]) -> list[Finding]:
    return [
        Finding(
            "etcdDatabaseHighFragmentationRatio",
            f"{one.name}: less than half of the database file is in use.",
            "defragment_all",
        )
        for one in newest
        if one.db_in_use_bytes > FRAGMENTED_BYTES_MIN
        and one.db_in_use_bytes < FRAGMENTED_SHARE * one.db_size_bytes
    ]
