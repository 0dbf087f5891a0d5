"""The verdict: order first, then the log, given or sought."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.linearizability.history import Operation, Report, Start
from tests.support.linearizability.order import order_violations
from tests.support.linearizability.replay import Replay
from tests.support.linearizability.search import GivenUp, Search
from tests.support.watch_checks import Truth

STEPS_MAX = 200_000


def check(
    operations: Iterable[Operation],
    *,
    start: Start | None = None,
    events: Truth | None = None,
    steps_max: int = STEPS_MAX,
) -> Report:
    """See the package. `steps_max` bounds the search: states that calls are tried against."""
    history = list(operations)
    start = start or Start()
    report = Report(len(history), list(order_violations(history, start.revision)))
    if events is not None:
        replay = Replay(history, start, events)
        report.violations.extend(replay.violations())
        report.events = events
        report.unknown_that_happened = replay.unknown_that_happened
    elif not report.violations:
        _search(report, history, start, steps_max)
    return report


def _search(report: Report, history: list[Operation], start: Start, steps_max: int) -> None:
    search = Search(history, start, steps_max)
    try:
        violation = search.violation()
    except GivenUp:
        report.is_undecided = True
        return
    if violation is not None:
        report.violations.append(violation)
    report.events = search.events()
    report.unknown_that_happened = search.unknown_that_happened
