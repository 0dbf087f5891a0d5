"""Auto-compaction (spec/kv.md §10), driven by a clock of numbers."""

from kvserver.member.compactor import PeriodicCompactor, RevisionCompactor


def run_periodic(retention: float, seconds: float, *, is_leader: bool = True) -> list[tuple]:
    """(time, revision compacted to), with one write a second from revision 100 on."""
    compactor = PeriodicCompactor(retention, now=0.0)
    found = []
    tenths = round(seconds * 10)
    for tick in range(tenths + 1):
        now = tick / 10
        revision = compactor.due(now, 100 + int(now), is_leader)
        if revision is not None:
            compactor.done(now, revision)
            found.append((now, revision))
    return found


def test_periodic_waits_one_retention_and_compacts_to_the_oldest_sample() -> None:
    """A3 as observed with 5 s: the start-up revision after 5 s, then every 5 s."""
    found = run_periodic(5.0, 16.0)
    assert found[0] == (5.0, 100)
    times = [time for time, _ in found]
    assert times == [5.0, 10.0, 15.0]
    for time, revision in found[1:]:
        assert 5.0 <= time - (revision - 100) <= 6.5, "about eleven steps of half a second earlier"


def test_long_retentions_compact_every_hour() -> None:
    compactor = PeriodicCompactor(24 * 3600.0, now=0.0)
    assert compactor.step_seconds == 360.0
    found = []
    for step in range(0, 27 * 10 + 1):
        now = step * 360.0
        revision = compactor.due(now, step + 1, True)
        if revision is not None:
            compactor.done(now, revision)
            found.append(now / 3600)
    assert found == [24.0, 25.0, 26.0, 27.0]


def test_a_follower_only_samples() -> None:
    assert run_periodic(5.0, 30.0, is_leader=False) == []


def test_an_equal_revision_is_not_compacted_again() -> None:
    compactor = PeriodicCompactor(5.0, now=0.0)
    found = []
    for tick in range(400):
        revision = compactor.due(tick / 10, 7, True)
        if revision is not None:
            compactor.done(tick / 10, revision)
            found.append(revision)
    assert found == [7]


def test_a_failed_compaction_is_tried_at_the_next_step() -> None:
    compactor = PeriodicCompactor(5.0, now=0.0)
    tries = [t / 10 for t in range(70) if compactor.due(t / 10, t + 1, True) is not None]
    assert tries == [5.0, 5.5, 6.0, 6.5]


def test_revision_mode_keeps_the_newest() -> None:
    """A4: retention 10 at revision 51 compacts to 41 five minutes after the start."""
    compactor = RevisionCompactor(10, now=0.0)
    assert compactor.due(299.0, 51, True) is None
    assert compactor.due(300.0, 51, True) == 41
    compactor.done(300.0, 41)
    assert compactor.due(600.0, 51, True) is None, "the same revision again"
    assert compactor.due(900.0, 8, True) is None, "nothing to compact yet"
    assert compactor.due(1200.0, 60, False) is None, "not the leader"
