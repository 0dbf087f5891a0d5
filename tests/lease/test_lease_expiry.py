"""Deadlines on the primary: renewal, time to live, expiry, promotion (spec/lease.md §5-§10)."""

from __future__ import annotations

from collections import Counter

import pytest

from kvserver.errors import Code
from kvserver.lease import Lessor, NotPrimary
from kvserver.lease.deadlines import Deadlines, spread
from kvserver.lease.lease import Lease


@pytest.fixture
def lessor() -> Lessor:
    lessor = Lessor(ttl_min=2)
    lessor.promote(0.0, 1.0)
    return lessor


def test_renewal_gives_the_whole_ttl(lessor: Lessor) -> None:  # K2
    lessor.grant(101, 60, 10.0)
    assert lessor.renew(101, 50.0) == 60
    assert lessor.time_to_live(101, 50.5) == (59, 60)
    assert lessor.due(70.1, 10) == []
    assert lessor.due(110.0, 10) == [101]


def test_unknown_lease_renews_to_zero(lessor: Lessor) -> None:  # case 18, K3
    assert lessor.renew(555, 0.0) == 0
    assert lessor.renew(0, 0.0) == 0


def test_expired_lease_is_never_renewed(lessor: Lessor) -> None:  # case 34, K4
    lessor.grant(5, 10, 0.0)
    assert lessor.renew(5, 10.01) is None
    assert lessor.due(10.01, 10) == [5]
    answered = []
    lessor.when_ended(5, lambda: answered.append(lessor.renew(5, 11.0)))
    assert answered == []
    lessor.revoke(5)
    assert answered == [0]


def test_waiting_for_the_end_is_over_with_leadership(lessor: Lessor) -> None:  # K4
    lessor.grant(5, 10, 0.0)
    calls = []
    lessor.when_ended(5, lambda: calls.append("demoted"))
    lessor.demote()
    assert calls == ["demoted"]
    lessor.when_ended(5, lambda: calls.append("at once"))
    lessor.promote(100.0, 1.0)
    lessor.when_ended(6, lambda: calls.append("unknown"))
    assert calls == ["demoted", "at once", "unknown"]


def test_time_to_live(lessor: Lessor) -> None:  # cases 7, 8, 20, 21, T1, T2
    lessor.grant(400, 2, 0.0)
    seen = [lessor.time_to_live(400, now)[0] for now in (0.1, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4)]
    assert seen == [1, 1, 1, 0, 0, 0, 0]
    assert lessor.time_to_live(400, 3.5) == (-1, 2), "expired, not yet revoked"
    lessor.revoke(400)
    assert lessor.time_to_live(400, 3.5) == (-1, 0)
    assert lessor.time_to_live(555, 0.0) == lessor.time_to_live(0, 0.0) == (-1, 0)


def test_never_early(lessor: Lessor) -> None:  # case 19, E3
    lessor.grant(200, 2, 0.5)
    assert lessor.due(2.4999, 10) == []
    assert lessor.due(2.5, 10) == [200]


def test_due_soonest_first_and_limited(lessor: Lessor) -> None:  # case 33, E1
    for number in range(2000):
        lessor.grant(number + 1, 10 + number % 7, 0.0)
    first = lessor.due(100.0, 500)
    assert len(first) == 500
    assert [number % 7 for number in (i - 1 for i in first)] == sorted((i - 1) % 7 for i in first)
    rest = [lessor.due(100.0, 500) for _ in range(4)]
    assert [len(ids) for ids in rest] == [500, 500, 500, 0]
    assert len({i for ids in (first, *rest) for i in ids}) == 2000


def test_due_again_when_the_revoke_took_no_effect(lessor: Lessor) -> None:  # E2
    lessor.grant(1, 2, 0.0)
    assert lessor.due(2.0, 10) == [1]
    assert lessor.due(4.9, 10) == []
    assert lessor.due(5.0, 10) == [1]
    lessor.revoke(1)
    assert lessor.due(50.0, 10) == []


def test_a_new_lease_under_an_old_id(lessor: Lessor) -> None:
    lessor.grant(1, 5, 0.0)
    lessor.revoke(1)
    lessor.grant(1, 60, 1.0)
    assert lessor.due(6.0, 10) == []
    assert lessor.due(61.0, 10) == [1]


def test_leases_by_remaining_time(lessor: Lessor) -> None:  # case 6, L1
    for lease_id, ttl in ((1, 9_000_000_000), (2, 2), (3, 30), (4, 10), (5, 2), (6, 2)):
        lessor.grant(lease_id, ttl, 0.0)
    ids = lessor.leases()
    assert set(ids[:3]) == {2, 5, 6}
    assert ids[3:] == [4, 3, 1]
    lessor.demote()
    assert set(lessor.leases()) == {1, 2, 3, 4, 5, 6}


def test_secondary_never_expires(lessor: Lessor) -> None:  # M1, P3
    lessor.grant(1, 2, 0.0)
    lessor.demote()
    lessor.grant(2, 2, 0.0)
    assert lessor.due(1e9, 10) == []
    assert not lessor.is_expired(1, 1e9)
    for ask in (lessor.renew, lessor.time_to_live):
        with pytest.raises(NotPrimary) as caught:
            ask(1, 0.0)
        assert (caught.value.code, caught.value.message) == (Code.UNKNOWN, "not a primary lessor")


def test_promotion_begins_every_ttl_anew(lessor: Lessor) -> None:  # cases 24, 28, P1
    lessor.grant(1, 30, 0.0)
    lessor.demote()
    lessor.promote(7.0, 1.0)
    assert lessor.time_to_live(1, 7.0) == (31, 30)
    assert lessor.due(37.9, 10) == []
    assert lessor.due(38.0, 10) == [1]


def test_renewal_soon_after_a_promotion_is_not_late(lessor: Lessor) -> None:  # E3
    lessor.grant(1, 30, 0.0)
    lessor.demote()
    lessor.promote(100.0, 5.0)
    assert lessor.renew(1, 101.0) == 30
    assert lessor.due(131.0, 10) == [1], "not 135, where the promotion had put it"


def test_promotion_uses_the_checkpoint(lessor: Lessor) -> None:  # P1, §9
    lessor.grant(1, 600, 0.0)
    lessor.checkpoint(1, 100, 500.0)
    lessor.demote()
    lessor.promote(500.0, 1.0)
    assert lessor.due(600.9, 10) == []
    assert lessor.due(601.0, 10) == [1]


def test_promotion_spreads_many(lessor: Lessor) -> None:  # P2
    for number in range(5000):
        lessor.grant(number + 1, 10, 0.0)
    lessor.demote()
    lessor.promote(0.0, 0.0)
    ends = dict.fromkeys(range(1, 5001), 10.0)
    now, seen = 0.0, Counter()
    while sum(seen.values()) < 5000:
        for lease_id in lessor.due(now, 5000):
            assert now >= ends[lease_id], "never earlier than without spreading"
            seen[int(now)] += 1
            lessor.revoke(lease_id)
        now += 0.1
        assert now < 20.0
    assert max(seen.values()) <= 900
    assert now < 10 + 5000 / 750 + 1.5


def test_fewer_than_a_thousand_are_not_spread(lessor: Lessor) -> None:  # P2
    for number in range(999):
        lessor.grant(number + 1, 10, 0.0)
    lessor.demote()
    lessor.promote(0.0, 0.0)
    assert len(lessor.due(10.0, 5000)) == 999


def test_spreading_leaves_sparse_times_alone() -> None:  # P2
    times = [(float(second), second) for second in range(3000)]
    assert spread(times, 750) == times
    assert spread([], 750) == []


def test_spread_is_never_earlier_and_keeps_order() -> None:
    times = sorted((float(i % 3), i) for i in range(6000))
    after = spread(times, 750)
    assert all(late >= early for (early, _), (late, _) in zip(times, after, strict=True))
    assert after == sorted(after)
    per_second = Counter(int(when) for when, _ in after)
    assert max(per_second.values()) <= 1500


def queue_of(count: int) -> tuple[dict[int, Lease], Deadlines]:
    leases: dict[int, Lease] = {}
    deadlines = Deadlines(leases)
    for number in range(count):
        lease = leases[number] = Lease(10)
        lease.deadline = 10.0
        deadlines.queue(number, lease, 10.0)
    return leases, deadlines


def test_a_moved_deadline_costs_no_entry() -> None:
    leases, deadlines = queue_of(1)
    for tick in range(1000):
        leases[0].deadline = 10.0 + tick
        assert deadlines.due(9.0 + tick, 10, 3.0) == []
    assert len(deadlines) == 1
    assert deadlines.due(1009.0, 10, 3.0) == [0]


def test_dead_entries_are_swept() -> None:
    leases, deadlines = queue_of(0)
    for number in range(10_000):
        lease = leases[number] = Lease(10)
        lease.deadline = 10.0
        deadlines.queue(number, lease, 10.0)
        if number % 100:
            del leases[number]
    assert len(deadlines) < 1200
    assert len(deadlines.due(10.0, 20_000, 3.0)) == 100


def test_counters(lessor: Lessor) -> None:  # spec/observability.md §2.4
    lessor.grant(1, 10, 0.0)
    lessor.renew(1, 1.0)
    lessor.renew(2, 1.0)
    lessor.revoke(1)
    assert (lessor.granted_total, lessor.renewed_total, lessor.revoked_total) == (1, 1, 1)
