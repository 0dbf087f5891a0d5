"""Whole databases between simulated members, by the product's own sender and receiver on streams,
threads and files that break (spec/peer.md §4.2; schedules.py has more)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kvserver import failpoints
from kvserver.proto import rpc_pb2 as rpc
from tests.sim.schedules import has_received, send_database
from tests.support.sim.cluster import Cluster
from tests.support.sim.faults import DATABASE, focused, profile_of
from tests.support.sim.machine import Process, Settings
from tests.support.sim.scripted import Scripted
from tests.support.sim.transfer import LIMITS
from tests.support.sim.world import Death

SECONDS = 30.0
SEEDS = (8, 32, 22, 19)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    made = Scripted(
        snapshot_entries=10, catch_up_entries=1, transfer_limits=replace(LIMITS, transfers_max=1)
    )
    yield made
    made.close()
    failpoints.disarm_all()


def lag(scripted: Scripted) -> Process:
    """A follower that needs a database, and is about to get it."""
    follower = scripted.followers[0]
    scripted.isolate(follower.name)
    for number in range(30):
        scripted.ask(scripted.leader.name, rpc.PutRequest(key=b"k%d" % number, value=b"v"))
    scripted.heal()
    return follower


def told(scripted: Scripted, name: str, words: str) -> bool:
    lines = scripted.world.lines or []
    return any(line[12:].startswith(name) and words in line for line in lines)


def come_level(scripted: Scripted, name: str) -> None:
    leader = scripted.leader
    applied = leader.core.member.applied_index
    machine = scripted.cluster.machines[name]
    scripted.until(
        lambda: machine.process is not None and machine.process.core.member.applied_index >= applied
    )


def test_a_database_that_was_vouched_for_is_installed_by_the_next_start(scripted: Scripted) -> None:
    process = lag(scripted)

    def die() -> None:
        if scripted.world.running is process.loop:
            failpoints.disarm_all()
            process.on_death("crash before the installation")
            raise Death

    failpoints.arm_call("raftBeforeApplySnap", die)
    scripted.until(lambda: process.machine.process is None)
    process.machine.start()
    assert told(scripted, process.name, "installing a received database")
    come_level(scripted, process.name)


def test_what_a_dead_receiver_had_is_removed_and_it_gets_another(scripted: Scripted) -> None:
    process = lag(scripted)
    machine = process.machine
    scripted.until(lambda: has_received(process))
    machine.disk.fs.sync_dir(f"{machine.disk.root}/data/member/snap")  # the names survive
    machine.crash()
    assert has_received(process)
    machine.start()
    assert machine.process is not None and not has_received(machine.process)
    assert told(scripted, process.name, "removed a leftover")
    come_level(scripted, process.name)


def test_a_sender_that_is_cut_off_gives_up_and_sends_another(scripted: Scripted) -> None:
    process = lag(scripted)
    scripted.until(lambda: has_received(process))
    leader = scripted.leader.name
    scripted.fabric.set_cut({(process.name, leader)})  # no answer
    ended = scripted.cluster.witness.transfers.ended
    scripted.until(lambda: ended[False] > 0)
    assert ended == {False: 1}
    scripted.heal()
    come_level(scripted, process.name)


def test_no_more_at_once_than_the_limit(scripted: Scripted) -> None:
    first, second = scripted.followers
    send_database(scripted.leader, first)
    send_database(scripted.leader, second)
    ended = scripted.cluster.witness.transfers.ended
    scripted.until(lambda: sum(ended.values()) == 2)
    assert ended == {False: 1, True: 1}
    send_database(scripted.leader, second)
    scripted.until(lambda: ended[True] == 2)


def test_the_log_is_held_while_a_database_is_on_its_way_and_a_while_after(
    scripted: Scripted,
) -> None:
    leader, receiver = scripted.leader, scripted.followers[0]
    send_database(leader, receiver)
    ended = scripted.cluster.witness.transfers.ended
    scripted.until(lambda: ended[True] == 1)
    first = leader.core.member.node.storage.first_index
    put_many(scripted)
    assert leader.core.member.node.storage.first_index == first
    scripted.run(LIMITS.log_hold_seconds)
    put_many(scripted)
    scripted.until(lambda: leader.core.member.node.storage.first_index > first)


def put_many(scripted: Scripted) -> None:
    for number in range(30):
        scripted.ask(scripted.leader.name, rpc.PutRequest(key=b"l%d" % number))
    scripted.run(1.0)


def test_a_database_of_another_cluster_is_refused(scripted: Scripted) -> None:
    refused(scripted, "412 cluster ID mismatch", cluster_id=1)


def test_a_database_for_another_member_is_refused(scripted: Scripted) -> None:
    """A member may live where another one did (spec/peer.md §4.1, `to`)."""
    leader, receiver = scripted.leader, scripted.followers[0]
    receiver.network.identity = replace(receiver.network.identity, member_id=1)
    send_database(leader, receiver)
    ended = scripted.cluster.witness.transfers.ended
    scripted.until(lambda: bool(ended))
    assert ended == {False: 1}
    assert told(scripted, leader.name, "500 failed to process raft message")


def refused(scripted: Scripted, words: str, **identity: int) -> None:
    leader, receiver = scripted.leader, scripted.followers[0]
    leader.network.identity = replace(leader.network.identity, **identity)
    send_database(leader, receiver)
    ended = scripted.cluster.witness.transfers.ended
    scripted.until(lambda: bool(ended))
    assert ended == {False: 1}
    assert told(scripted, leader.name, words)
    assert not has_received(receiver)


def test_runs_have_databases_in_them_that_arrive_and_that_break() -> None:
    ended: Counter[bool] = Counter()
    settings = Settings(snapshot_entries=10, catch_up_entries=1)
    for seed in range(1, 25):
        cluster = Cluster(seed, seconds=SECONDS, profile=focused(seed, DATABASE, settings=settings))
        cluster.run()
        ended += cluster.witness.transfers.ended
        if ended[True] >= 3 and ended[False] >= 3:
            return
    raise AssertionError(f"of all databases no more than {ended} came or broke")


def test_many_seeds_break_databases() -> None:
    assert 5 <= sum(DATABASE in profile_of(seed).faults for seed in range(1, 25)) <= 20


def test_one_seed_is_one_run_with_databases_in_it() -> None:
    """To the bit, in processes with other hashes of strings."""
    code = (
        "from tests.support.sim.hunt import replay\n"
        f"for seed in {SEEDS}:\n"
        f"    failure, lines, digest = replay(seed, {SECONDS})\n"
        "    ends = sum('database for' in line and 'ended' in line for line in lines)\n"
        "    print(seed, failure, ends, digest)\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "77")
    ]
    assert runs[0] == runs[1]
    ends = [int(line.split()[-2]) for line in runs[0].splitlines()]
    assert len(ends) == len(SEEDS) and sum(ends) >= 3
