"""Rounds of chaos (verification.md rungs 7 and 8), and that they would see what is wrong.

Which faults come is fixed here, so that each kind is met; the seeds decide the rest. How long a
recovery took is printed by `make chaos`, and never asserted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from kvserver.proto import rpc_pb2 as rpc
from tests.support.chaos.cluster import ChaosMember, chaos_cluster
from tests.support.chaos.disks import may_mount
from tests.support.chaos.faults import (
    Compact,
    Fault,
    FullDisk,
    Isolate,
    Kill,
    PanicAt,
    Pause,
    Resets,
    SlowDisk,
)
from tests.support.chaos.journal import save
from tests.support.chaos.load import Book
from tests.support.chaos.plan import Planned
from tests.support.chaos.replacement import Replace
from tests.support.chaos.rounds import RoundResult, Rounds
from tests.support.linearizability import Operation, check
from tests.support.peer_proxy import apart
from tests.support.servers_proc import wait_until

pytestmark = pytest.mark.e2e
KEPT = "KEYDECK_CHAOS_KEEP"
"""Where a bad round is written to be looked at; without it, into the test's own directory."""


def play(rounds: Rounds, directory: Path, *plan: Planned, number: int) -> RoundResult:
    result = rounds.run(plan, number)
    kept = Path(os.environ.get(KEPT, directory)) / f"round-{number}"
    if result.violations:
        save(kept, result)
    print(result)
    return result


def at(begins: float, fault: Fault, ends: float) -> Planned:
    return Planned(fault, begins, ends)


def test_three_members_through_kills_partitions_and_full_disks(tmp_path: Path) -> None:
    plans = [
        [at(0.1, Compact("one"), 0.1), at(0.2, Kill("leader"), 1.0), at(0.7, Resets("one"), 0.7)],
        [
            at(0.1, SlowDisk("follower"), 1.2),
            at(0.2, Isolate("leader"), 0.8),
            at(0.9, Pause("leader"), 1.7),
        ],
    ]
    disks = int(may_mount())
    if disks:
        plans.append([at(0.1, FullDisk("its own"), 0.8), at(0.6, Kill("all"), 0.7)])
    with chaos_cluster(tmp_path, 3, small_disks=disks) as cluster:
        rounds = Rounds(cluster, seed=1)
        for number, plan in enumerate(plans):
            result = play(rounds, tmp_path, *plan, number=number)
            assert not result.violations, "\n".join(result.violations)
            assert result.operations > 60


def test_five_members_lose_two_and_replace_one(tmp_path: Path) -> None:
    plans = [
        [at(0.1, Kill("minority"), 0.8), at(0.4, PanicAt("leader"), 1.0)],
        [at(0.1, Replace("follower"), 0.1)],
    ]
    with chaos_cluster(tmp_path, 5) as cluster:
        rounds = Rounds(cluster, seed=2)
        for number, plan in enumerate(plans):
            result = play(rounds, tmp_path, *plan, number=number)
            assert not result.violations, "\n".join(result.violations)
        names = {member.name for member in cluster.members[0].members()}
        assert "m5" in names and len(names) == 5


def mutant(*bugs: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.e2e.chaos.mutant", ",".join(bugs))


def test_a_round_sees_members_that_differ_and_watches_with_holes(tmp_path: Path) -> None:
    with chaos_cluster(tmp_path, 3, keydeck=mutant("diverging_state", "lost_events")) as cluster:
        text = "\n".join(Rounds(cluster, seed=3).run([], 0).violations)
    assert "HashKV at revision" in text
    assert "the log of m1#1: Interest" in text
    assert "w0.3000: Interest" in text


def told(book: Book, member: ChaosMember, request: Any, seconds: float = 60) -> None:
    """One call through one member; the answer goes into the book."""
    method = member.kv.Range if isinstance(request, rpc.RangeRequest) else member.kv.Put
    invoked = book.now()
    answer = method(request, timeout=seconds, wait_for_ready=True)
    book.add(Operation("c", member.label, request, invoked, book.now(), answer))


@pytest.mark.parametrize("bugs", [(), ("stale_reads",)])
def test_a_read_of_a_leader_that_was_cut_off(tmp_path: Path, bugs: Sequence[str]) -> None:
    """It must not be answered from what was there (E2); the checker knows when it was."""
    with chaos_cluster(tmp_path, 3, keydeck=mutant(*bugs) if bugs else ()) as cluster:
        wait_until(lambda: cluster.leader() is not None, 120, "a leader")
        old, book = cluster.leader(), Book()
        assert old is not None
        others = [member for member in cluster.members if member is not old]
        told(book, old, rpc.PutRequest(key=b"a", value=b"1"))
        cluster.network.cut(apart([old.name], [member.name for member in others]))
        lost = old.status().header.member_id
        wait_until(lambda: others[0].status().leader not in (0, lost), 120, "a new leader")
        told(book, others[0], rpc.PutRequest(key=b"a", value=b"2"))
        if bugs:
            told(book, old, rpc.RangeRequest(key=b"a"))
        else:
            with pytest.raises(grpc.RpcError):
                told(book, old, rpc.RangeRequest(key=b"a"), seconds=2)
        report = check(book.take())
    assert [violation.kind for violation in report.violations] == ["order"] * len(bugs)
