"""Schedules that others paid for, and those that the simulator found, step by step on the real code
(verification.md, lessons)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.auth.identity import NOBODY
from kvserver.member.proposal import CallbackWaiter
from kvserver.proto import rpc_pb2 as rpc
from kvserver.raft import Message, MessageType
from tests.sim.mutants import MUTANTS
from tests.sim.schedules import (
    SCHEDULES,
    SIZES,
    ask_where_a_promise_is_all_there_is,
)
from tests.support.sim.scripted import Scripted

Make = Callable[..., Scripted]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Scripted] = []

    def build(**settings: Any) -> Scripted:
        made.append(Scripted(**settings))
        return made[-1]

    yield build
    for each in made:
        each.close()


def keys_of(scripted: Scripted, target: str) -> list[bytes]:
    request = rpc.RangeRequest(key=b"\x00", range_end=b"\x00")
    return [kv.key for kv in scripted.ask(target, request).kvs]


def test_a_replaced_leader_ends_no_leases(make: Make) -> None:
    """It stood still while another was elected and renewed the lease; when it goes on, its timers
    run before it hears of that (spec/lease.md E1: found by seed 10)."""
    scripted = make()
    old = scripted.leader
    granted = scripted.ask(old.name, rpc.LeaseGrantRequest(TTL=3))
    scripted.ask(old.name, rpc.PutRequest(key=b"leased", lease=granted.ID))
    old.loop.pause()
    scripted.until(lambda: scripted.leader is not old)
    new = scripted.leader
    scripted.run(2.0)
    lessor = new.core.state.lessor
    assert lessor.renew(granted.ID, new.clock.monotonic()) == 3
    # All that waited at the old leader happens in the order of its time: the timers first.
    old.loop.resume()
    scripted.run(1.5)
    assert keys_of(scripted, new.name) == [b"leased"]
    assert scripted.cluster.witness.revoked == {}


def test_a_leader_that_stood_still_and_still_leads_goes_on(make: Make) -> None:
    scripted = make()
    leader = scripted.leader
    member = leader.core.member
    leader.loop.pause()
    scripted.run(0.6)
    leader.loop.resume()
    scripted.run(0.3)
    assert scripted.leader is leader
    assert not member.leads_surely(leader.clock.monotonic())
    task = leader.loop.create_task(member.confirm_leadership())
    scripted.until(task.done)
    assert member.leads_surely(leader.clock.monotonic())


@pytest.mark.parametrize("is_asked_directly", [True, False])
@pytest.mark.parametrize("is_renewed", [True, False])
@pytest.mark.parametrize("is_revoked", [True, False])
def test_a_leader_that_has_promised_knows_leases_as_well_as_others(
    make: Make, is_revoked: bool, is_renewed: bool, is_asked_directly: bool
) -> None:
    """What became of a lease is told by a follower before its leader knows (spec/lease.md K7)."""
    scripted = make()
    leader, (by, third) = scripted.leader, scripted.followers
    asked = leader if is_asked_directly else third
    if is_revoked:
        lease_id = scripted.ask(leader.name, rpc.LeaseGrantRequest(TTL=60)).ID
        scripted.run(1.0)
        ask_where_a_promise_is_all_there_is(scripted, by, rpc.LeaseRevokeRequest(ID=lease_id))
    else:
        request = rpc.LeaseGrantRequest(TTL=60)
        lease_id = ask_where_a_promise_is_all_there_is(scripted, by, request).ID
    if is_renewed:
        answers = scripted.renew(asked.name, lease_id)
        scripted.until(lambda: bool(answers))
        assert answers == [0 if is_revoked else 60]
    else:
        left = scripted.ask(asked.name, rpc.LeaseTimeToLiveRequest(ID=lease_id))
        assert (left.TTL == -1) is is_revoked


@pytest.mark.parametrize("is_reached", [True, False])
def test_a_write_at_a_leader_that_hands_over_waits(make: Make, is_reached: bool) -> None:
    """For the new leader, or for the old one that has given the transfer up (spec/kv.md E6)."""
    scripted = make()
    old, target = scripted.leader, scripted.followers[0]
    if not is_reached:
        target.loop.pause()
    old.core.member.node.transfer_leader(target.core.member.member_id)
    old.core.member.wake()
    answered = scripted.begin(old.name, rpc.PutRequest(key=b"k"))
    if not is_reached:
        scripted.run(0.3)
        assert answered == []
    scripted.until(lambda: bool(answered))
    assert isinstance(answered[0], rpc.PutResponse)
    assert (scripted.leader is old) is not is_reached


@pytest.mark.parametrize("is_reached", [True, False])
@pytest.mark.parametrize("is_target", [True, False])
def test_a_write_passed_to_a_leader_that_hands_over_waits(
    make: Make, is_reached: bool, is_target: bool
) -> None:
    """It is passed on to the new leader, or taken by the old one in the end; whoever passed it
    gives it up only when neither was heard of (spec/kv.md E5, E6)."""
    scripted = make()
    old = scripted.leader
    target, other = scripted.followers
    by = target if is_target else other
    held = old.core.member.mailbox._held
    # The last word to the target is lost: the old leader goes on waiting for it.
    scripted.fabric.set_cut({(old.name, target.name)})
    old.core.member.node.transfer_leader(target.core.member.member_id)
    old.core.member.wake()
    answered = scripted.begin(by.name, rpc.PutRequest(key=b"k"))
    scripted.until(lambda: bool(held))
    assert answered == []
    if is_reached:
        scripted.heal()
        giver, taker = old.core.member, target.core.member
        last_word = Message(
            MessageType.TIMEOUT_NOW, taker.member_id, giver.member_id, giver.node.term
        )
        taker.mailbox.receive([last_word])
    scripted.until(lambda: not held)
    scripted.heal()
    scripted.until(lambda: bool(answered))
    assert isinstance(answered[0], rpc.PutResponse)
    assert (scripted.leader is target) or not is_reached


def test_what_only_this_reign_may_give_waits_for_no_other(make: Make) -> None:
    """A lease that ran out while its leader was handing over was revoked by the next leader, where
    it had been renewed (spec/lease.md E1: found by seed 700108)."""
    scripted = make()
    old, target = scripted.leader, scripted.followers[0]
    granted = scripted.ask(old.name, rpc.LeaseGrantRequest(TTL=60))
    scripted.fabric.set_cut({(old.name, target.name)})
    member = old.core.member
    member.node.transfer_leader(target.core.member.member_id)
    member.wake()
    scripted.run(0.01)
    answered = scripted.begin(old.name, rpc.PutRequest(key=b"k"))
    scripted.until(lambda: member.pending_proposals == 1)
    request = rpc.LeaseRevokeRequest(ID=granted.ID)
    told: list[errors.RequestError | None] = []
    waiter = CallbackWaiter(told.append)
    member.propose_as_leader(
        Kind.LEASE_REVOKE, request, request.SerializeToString(), waiter, NOBODY
    )
    assert told and told[0] is not None
    assert member.pending_proposals == 1, "the put still waits"
    scripted.heal()
    scripted.until(lambda: bool(answered))
    assert isinstance(answered[0], rpc.PutResponse)
    assert scripted.cluster.witness.revoked == {}


def test_a_write_passed_to_a_leader_that_died_is_given_up(make: Make) -> None:
    scripted = make()
    old, by = scripted.leader, scripted.followers[0]
    scripted.fabric.set_cut({(by.name, old.name)})
    answered = scripted.begin(by.name, rpc.PutRequest(key=b"k"))
    scripted.run(0.05)
    old.machine.crash()
    scripted.until(lambda: scripted.cluster.leader() not in (None, old))
    scripted.until(lambda: bool(answered), 2.5)
    assert "previous leader failure" in str(answered[0])


def test_a_conf_change_that_was_not_taken_raises_no_lease(make: Make) -> None:
    """An empty entry stands in its place, as at the beginning of a reign (found by seed 901783)."""
    scripted = make()
    leader = scripted.leader
    granted = scripted.ask(leader.name, rpc.LeaseGrantRequest(TTL=60))
    scripted.run(10.0)
    member = leader.core.member
    applied = member.applied_index
    member.node.propose([b""])
    member.wake()
    scripted.until(lambda: member.applied_index > applied)
    left = scripted.ask(leader.name, rpc.LeaseTimeToLiveRequest(ID=granted.ID))
    assert left.TTL <= 50


def test_a_leader_that_is_removed_before_it_is_known_does_not_spin(make: Make) -> None:
    """It refuses all proposals at once until it ends, its own too (found by seed 9001850)."""
    scripted = make(is_strict=False)
    leader = scripted.leader
    cluster, member = leader.core.cluster, leader.core.member
    scripted.begin(leader.name, rpc.MemberRemoveRequest(ID=member.member_id))
    scripted.until(lambda: leader.core.state.membership.is_removed(member.member_id))
    assert member.is_leader
    cluster.published = leader.loop.create_future()
    before = member._proposals.taken
    cluster.start()
    scripted.run(0.5)
    assert 0 < member._proposals.taken - before <= 4


@pytest.mark.parametrize("seed", range(1, 6))
def test_who_is_left_alone_knows_it_after_a_crash(make: Make, seed: int) -> None:
    """The other one is gone for good: its vote never comes (found by seed 800357)."""
    scripted = make(size=2, seed=seed, is_strict=False)
    leader, left = scripted.leader, scripted.followers[0]
    member_id = leader.core.member.member_id
    scripted.begin(left.name, rpc.MemberRemoveRequest(ID=member_id))
    scripted.until(lambda: left.core.state.membership.is_removed(member_id))
    scripted.run(0.02)  # the disk has had its time, the database has not
    left.machine.crash()
    scripted.until(lambda: leader.machine.is_removed)
    left.machine.start()
    scripted.until(lambda: scripted.cluster.leader() is left.machine.process)
    scripted.until(lambda: scripted.leader.is_serving)
    answer = scripted.ask(left.name, rpc.PutRequest(key=b"k"))
    assert isinstance(answer, rpc.PutResponse)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_nothing_goes_wrong(make: Make, name: str) -> None:
    assert not SCHEDULES[name](make(size=SIZES.get(name, 5)))


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_the_schedule_shows_the_bug(make: Make, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a random run seldom meets."""
    mutants = [mutant for mutant in MUTANTS.values() if mutant.schedule == name]
    mutants[0].plant(monkeypatch)
    assert SCHEDULES[name](make(size=SIZES.get(name, 5)))


def test_a_flush_takes_no_effects_without_their_index(make: Make) -> None:
    """A physical compaction waits for the disk, and is answered in the middle of a slice of
    applying: what that slice has done has no applied index yet (found by seed 30031)."""
    scripted = make(size=1)
    leader = scripted.leader
    scripted.ask(leader.name, rpc.PutRequest(key=b"k", value=b"1"))
    scripted.ask(leader.name, rpc.CompactionRequest(revision=2))
    scripted.run(1.0)
    leader.loop.pause()  # so that both are applied in one slice
    put = scripted.begin(leader.name, rpc.PutRequest(key=b"k", value=b"2"))
    scripted.run(0.01)
    compaction = scripted.begin(leader.name, rpc.CompactionRequest(revision=1, physical=True))
    scripted.run(0.01)
    leader.loop.resume()
    scripted.until(lambda: bool(put and compaction))
    leader.machine.crash()
    leader.machine.start()  # the witness compares the state with the index
    scripted.until(lambda: bool(scripted.cluster.processes()[0].is_serving))
    assert scripted.ask(leader.name, rpc.RangeRequest(key=b"k")).kvs[0].version == 2
