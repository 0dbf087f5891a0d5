"""Grant, revoke, attachments (spec/lease.md §1-§4, §10 P4, §12)."""

from __future__ import annotations

import pytest

from kvserver.errors import Code, LeaseExist, LeaseNotFound, LeaseTTLTooLarge
from kvserver.lease import Lessor, NotPrimary, ttl_seconds_min
from kvserver.proto import lease_pb2


@pytest.fixture
def lessor() -> Lessor:
    lessor = Lessor(ttl_min=2)
    lessor.promote(0.0, 0.0)
    return lessor


def test_granted_ttl(lessor: Lessor) -> None:  # cases 1, 2, 4, G4
    assert lessor.grant(10, 10, 0.0) == 10
    assert [lessor.grant(i, ttl, 0.0) for i, ttl in ((7, 1), (8, 0), (9, -5))] == [2, 2, 2]
    assert lessor.grant(-3, 30, 0.0) == 30
    assert lessor.time_to_live(-3, 0.5) == (29, 30)


def test_a_lease_is_granted_once(lessor: Lessor) -> None:  # case 3, G3
    lessor.grant(7, 10, 0.0)
    with pytest.raises(LeaseExist):
        lessor.grant(7, 10, 0.0)


def test_too_large_wins_over_duplicate(lessor: Lessor) -> None:  # case 5, G3
    assert lessor.grant(11, 9_000_000_000, 0.0) == 9_000_000_000
    for lease_id in (12, 11):
        with pytest.raises(LeaseTTLTooLarge):
            lessor.grant(lease_id, 9_000_000_001, 0.0)
    assert not lessor.exists(12)


@pytest.mark.parametrize(
    ("election_ticks", "heartbeat_seconds", "expected"),
    [(10, 0.1, 2), (20, 0.1, 3), (10, 0.5, 8), (5, 0.1, 1), (10, 0.01, 1), (7, 0.1, 1)],
)
def test_least_ttl(election_ticks: int, heartbeat_seconds: float, expected: int) -> None:  # G4
    assert ttl_seconds_min(election_ticks, heartbeat_seconds) == expected


def test_revoke_gives_the_keys_in_order(lessor: Lessor) -> None:  # case 14, V2
    lessor.grant(100, 60, 0.0)
    for key in (b"z", b"zz", b"b"):
        lessor.attach(100, key)
    assert lessor.revoke(100) == [b"b", b"z", b"zz"]
    assert not lessor.exists(100)


def test_revoke_of_unknown_and_of_empty(lessor: Lessor) -> None:  # case 15, V1
    for lease_id in (100, 0):
        with pytest.raises(LeaseNotFound) as caught:
            lessor.revoke(lease_id)
        assert caught.value.code == Code.NOT_FOUND
    lessor.grant(100, 60, 0.0)
    assert lessor.revoke(100) == []


def test_attaching_to_unknown_fails(lessor: Lessor) -> None:  # case 16, A1
    with pytest.raises(LeaseNotFound):
        lessor.attach(100, b"q")


def test_attachments_move(lessor: Lessor) -> None:  # cases 7, 9, 10, A2
    lessor.grant(100, 60, 0.0)
    lessor.grant(101, 60, 0.0)
    assert lessor.keys(100) == []
    for key in (b"z", b"a", b"m"):
        lessor.attach(100, key)
        lessor.attach(100, key)
    assert lessor.keys(100) == [b"a", b"m", b"z"]
    lessor.detach(100, b"m")
    lessor.attach(101, b"m")
    lessor.detach(100, b"z")
    lessor.detach(100, b"never there")
    assert (lessor.keys(100), lessor.keys(101)) == ([b"a"], [b"m"])
    lessor.detach(101, b"other")
    assert lessor.keys(101) == [b"m"]
    lessor.detach(101, b"m")
    assert lessor.keys(101) == []


def test_detaching_after_the_revoke_is_nothing(lessor: Lessor) -> None:  # V2
    lessor.grant(100, 60, 0.0)
    lessor.attach(100, b"a")
    for key in lessor.revoke(100):
        lessor.detach(100, key)
    assert lessor.keys(100) == []


def test_expired_leases_still_take_keys(lessor: Lessor) -> None:  # A1
    lessor.grant(100, 2, 0.0)
    assert lessor.is_expired(100, 5.0)
    lessor.attach(100, b"a")
    assert lessor.revoke(100) == [b"a"]


def test_restore(lessor: Lessor) -> None:  # P4, M2, case 22
    lessor.grant(303, 80, 0.0)
    lessor.grant(-9, 2, 0.0)
    lessor.checkpoint(303, 33, 0.0)
    items = [(b"", lessor.record(i)) for i in (303, -9)]
    again = Lessor(ttl_min=5)
    again.grant(1, 60, 0.0)
    again.restore(items)
    assert not again.exists(1) and len(again) == 2
    again.attach(303, b"k")
    again.promote(100.0, 0.0)
    assert again.time_to_live(303, 100.0) == (33, 80)
    assert again.time_to_live(-9, 100.0) == (5, 5), "a TTL below the least is raised"
    assert again.keys(303) == [b"k"]


def test_restore_replaces_a_primary_by_a_secondary(lessor: Lessor) -> None:  # P4, P3
    lessor.grant(1, 2, 0.0)
    lessor.restore([(b"", lessor.record(1))])
    assert not lessor.is_primary
    assert lessor.due(1000.0, 10) == []
    with pytest.raises(NotPrimary):
        lessor.time_to_live(1, 0.0)


def test_stored_record() -> None:  # spec/storage.md: leasepb.Lease
    lessor = Lessor(ttl_min=2)
    lessor.grant(5, 60, 0.0)
    assert lessor.record(5) == lease_pb2.Lease(ID=5, TTL=60).SerializeToString()
    assert lessor.checkpoint(5, 40, 0.0)
    record = lease_pb2.Lease(ID=5, TTL=60, RemainingTTL=40)
    assert lessor.record(5) == record.SerializeToString()
    assert not lessor.checkpoint(6, 40, 0.0), "C2: unknown ids are ignored"
