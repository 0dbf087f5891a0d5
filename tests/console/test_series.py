"""Series, charts and the alert rules on them, without a server or a database
(spec/observability.md §2.8)."""

from __future__ import annotations

import pytest

from console.sampling.charts import HEIGHT, WIDTH, draw, path_of, scale, time_ticks
from console.sampling.series import (
    GROWTH_LOOK_SECONDS,
    Line,
    Seen,
    Span,
    answering,
    by_member,
    findings,
    free_percent,
    over_members,
    predicted,
    rate,
)

MIB = 1024 * 1024
SPAN = Span(0, 600, 60)


def seen(second: int, member: str = "a", **figures) -> Seen:
    values = {
        "is_up": True,
        "db_size_bytes": 100,
        "db_in_use_bytes": 50,
        "db_quota_bytes": 0,
        "revision": 1,
        "applied_lag": 0,
        "round_trip_ms": 1.0,
        **figures,
    }
    return Seen(second, member, member.upper(), **values)


def values(line: Line) -> list[float | None]:
    return [value for _, value in line.points]


def test_a_silent_member_leaves_a_gap() -> None:
    rows = [seen(0), seen(60, is_up=False), seen(120, "b", revision=9)]
    a, b = by_member(rows, Span(0, 180, 60), lambda one: one.revision)
    assert (a.name, values(a)) == ("A", [1, None, None])
    assert (b.name, values(b)) == ("B", [None, None, 9])
    worst = over_members("x", rows, Span(0, 180, 60), lambda one: one.revision)
    assert values(worst) == [1, None, 9] and worst.newest == 9


def test_growth_is_spread_over_a_gap_and_never_negative() -> None:
    line = Line("r", ((0, 10.0), (10, 20.0), (20, None), (30, 60.0), (40, 5.0), (50, 5.0)))
    assert values(rate(line, 10)) == [None, 1.0, None, 2.0, None, 0.0]


def test_paths_are_broken_at_gaps_and_a_lone_point_is_seen() -> None:
    span = Span(0, 60, 10)
    path = path_of([(0, 1.0), (10, 2.0), (20, None), (30, 3.0)], span, lambda v: v)
    assert path == f"M0 1L{WIDTH / 6:g} 2M{WIDTH / 2:g} 3L{WIDTH / 2 + 1:g} 3"
    assert path_of([(0, None)], span, lambda v: v) == ""


@pytest.mark.parametrize(
    ("top", "is_binary", "step", "end"),
    [
        (1.0, False, 0.5, 1.0),
        (7.3, False, 2.0, 8.0),
        (100.0, False, 50.0, 100.0),
        (0.04, False, 0.01, 0.04),
        (3 * MIB, True, 1 * MIB, 3 * MIB),
        (2048 * MIB, True, 512 * MIB, 2048 * MIB),
    ],
)
def test_axes_have_round_steps(top: float, is_binary: bool, step: float, end: float) -> None:
    found_step, found_end = scale(top, is_binary=is_binary)
    assert found_end >= top and round(found_end / found_step, 6) == int(found_end / found_step)
    assert 1 <= found_end / found_step <= 5
    if not is_binary:
        assert (found_step, found_end) == pytest.approx((step, end))


def test_a_threshold_far_above_is_left_out() -> None:
    line = Line("db", tuple((slot, 10.0) for slot in SPAN.slots))
    near = draw("t", [line], SPAN, str, [(20.0, "near"), (1000.0, "far")])
    assert [one.words for one in near.thresholds] == ["near"]
    assert 0 <= near.thresholds[0].y < HEIGHT
    assert near.lines[0].newest == "10.0"
    assert len(near.rows) <= 12 and near.rows[0][0] == 540


def test_a_chart_of_nothing_says_so() -> None:
    assert draw("t", [Line("x", ((0, None),))], Span(0, 60, 60), str).is_empty
    assert draw("t", [], SPAN, str).is_empty


def test_time_ticks_are_round_and_few() -> None:
    for length in (3600, 6 * 3600, 86400, 7 * 86400, 90 * 86400):
        span = Span(1_000_020, 1_000_020 + length, 60)
        ticks = time_ticks(span)
        assert 2 <= len(ticks) <= 8
        assert all(span.first <= tick < span.until and tick % 600 == 0 for tick in ticks)


def test_a_line_of_growth_is_drawn_on() -> None:
    points = tuple((second, 100.0 + second) for second in range(0, GROWTH_LOOK_SECONDS, 600))
    newest = points[-1][0]
    assert predicted(Line("x", points), 1000) == pytest.approx(100 + newest + 1000)
    assert predicted(Line("x", points[:2]), 1000) is None
    assert predicted(Line("x", ()), 1000) is None


def rules(rows: list[Seen], changes: list[int] | None = None, span: Span = SPAN) -> list[str]:
    return [one.rule for one in findings(rows, span, changes or [])]


def test_the_official_rules() -> None:
    assert rules([seen(0)]) == []
    assert rules([seen(0, db_size_bytes=96, db_quota_bytes=100)]) == ["etcdDatabaseQuotaLowSpace"]
    assert rules([seen(0, db_size_bytes=94, db_quota_bytes=100)]) == []
    fragmented = seen(0, db_size_bytes=300 * MIB, db_in_use_bytes=120 * MIB)
    assert rules([fragmented]) == ["etcdDatabaseHighFragmentationRatio"]
    small = seen(0, db_size_bytes=30 * MIB, db_in_use_bytes=12 * MIB)
    assert rules([small]) == []
    assert rules([seen(0)], [10, 20, 30, 40]) == ["etcdHighNumberOfLeaderChanges"]
    assert rules([seen(0)], [10, 20, 30]) == []


def test_a_database_that_grows_towards_its_quota() -> None:
    span = Span(0, GROWTH_LOOK_SECONDS, 600)
    rows = [
        seen(second, db_size_bytes=1000 + second, db_quota_bytes=20_000) for second in span.slots
    ]
    assert rules(rows, span=span) == ["etcdExcessiveDatabaseGrowth"]
    calm = [seen(second, db_size_bytes=1000, db_quota_bytes=20_000) for second in span.slots]
    assert rules(calm, span=span) == []


def test_who_was_down_once_did_not_answer_every_time() -> None:
    span = Span(0, 60, 30)
    rows = [seen(0, "a"), seen(0, "b", was_down=True), seen(30, "a", is_up=False, was_down=True)]
    assert answering("answer", rows, span).points == ((0, 1), (30, 0))


def test_the_free_share_of_a_file() -> None:
    assert free_percent(seen(0, db_size_bytes=200, db_in_use_bytes=50)) == 75
    assert free_percent(seen(0, db_size_bytes=0, db_in_use_bytes=0)) == 0
