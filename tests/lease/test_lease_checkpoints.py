"""Remaining time in the log (spec/lease.md §9, K10)."""

from __future__ import annotations

import pytest

from kvserver.lease import Lessor


@pytest.fixture
def lessor() -> Lessor:
    lessor = Lessor(ttl_min=2, checkpoints=True)
    lessor.promote(0.0, 0.0)
    return lessor


def test_every_interval_for_long_leases(lessor: Lessor) -> None:  # C1
    lessor.grant(1, 1000, 0.0)
    lessor.grant(2, 300, 0.0)
    assert lessor.due_checkpoints(299.9, 1000) == []
    assert lessor.due_checkpoints(300.5, 1000) == [(1, 700)], "rounded up"
    assert lessor.due_checkpoints(301.0, 1000) == []
    assert lessor.checkpoint(1, 700, 301.0)
    assert lessor.due_checkpoints(601.0, 1000) == [(1, 399)]


def test_no_checkpoint_once_little_is_left(lessor: Lessor) -> None:  # C1
    lessor.grant(1, 550, 0.0)
    assert lessor.due_checkpoints(300.0, 10) == [(1, 250)]
    lessor.checkpoint(1, 250, 300.0)
    assert lessor.due_checkpoints(600.0, 10) == []


def test_skipped_when_full_or_expired(lessor: Lessor) -> None:  # C1
    lessor.grant(1, 1000, 0.0)
    lessor.grant(2, 301, 0.0)
    assert lessor.renew(1, 300.0) == 1000
    assert lessor.due_checkpoints(300.0, 10) == [(2, 1)]
    lessor.revoke(2)
    assert lessor.due_checkpoints(1001.0, 10) == [(1, 299)]


def test_at_most_so_many_at_a_time(lessor: Lessor) -> None:  # C1
    for number in range(1500):
        lessor.grant(number + 1, 1000, 0.0)
    assert len(lessor.due_checkpoints(300.0, 1000)) == 1000
    assert len(lessor.due_checkpoints(300.0, 1000)) == 500


def test_renewal_waits_for_the_checkpoint_to_be_cleared(lessor: Lessor) -> None:  # K10
    lessor.grant(1, 1000, 0.0)
    lessor.checkpoint(1, 700, 300.0)
    assert lessor.has_checkpoint(1)
    assert lessor.renew(1, 301.0) is None
    lessor.checkpoint(1, 0, 301.0)
    assert not lessor.has_checkpoint(1)
    assert lessor.renew(1, 302.0) == 1000
    lessor.demote()
    lessor.promote(400.0, 0.0)
    assert lessor.time_to_live(1, 400.0) == (1000, 1000)


def test_remaining_time_never_grows_over_leader_changes(lessor: Lessor) -> None:
    lessor.grant(1, 1000, 0.0)
    now, left = 0.0, 1000
    for _ in range(4):
        now += 300.0
        for lease_id, remaining in lessor.due_checkpoints(now, 10):
            lessor.checkpoint(lease_id, remaining, now)
        lessor.demote()
        lessor.promote(now, 1.0)
        ttl, _ = lessor.time_to_live(1, now)
        assert ttl <= left + 1
        left = ttl


def test_off_by_default() -> None:
    lessor = Lessor(ttl_min=2)
    lessor.promote(0.0, 0.0)
    lessor.grant(1, 1000, 0.0)
    lessor.checkpoint(1, 800, 1.0)
    assert lessor.due_checkpoints(1e6, 10) == []


def test_demoted_has_no_checkpoints_to_make(lessor: Lessor) -> None:
    lessor.grant(1, 1000, 0.0)
    lessor.demote()
    assert lessor.due_checkpoints(1e6, 10) == []
