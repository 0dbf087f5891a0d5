"""Rounds of chaos (verification.md rungs 7 and 8), and that they would see what is wrong.

Which faults come is fixed here, so that each kind is met; the seeds decide the rest. How long a
recovery took is printed by `make chaos`, and never asserted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.chaos.cluster import chaos_cluster, may_mount
from tests.support.chaos.faults import (
    Backup,
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
from tests.support.chaos.plan import Planned
from tests.support.chaos.replacement import Replace
from tests.support.chaos.rounds import RoundResult, Rounds

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
        [at(0.1, SlowDisk("follower"), 1.2), at(0.2, Isolate("leader"), 1.2)],
        [at(0.1, Pause("leader"), 1.0), at(0.2, Backup("one"), 0.2)],
    ]
    disks = int(may_mount())
    if disks:
        plans.append([at(0.1, FullDisk("its own"), 0.8), at(0.6, Kill("all"), 0.7)])
    with chaos_cluster(tmp_path, 3, small_disks=disks) as cluster:
        rounds = Rounds(cluster, seed=1)
        for number, plan in enumerate(plans):
            result = play(rounds, tmp_path, *plan, number=number)
            assert not result.violations, "\n".join(result.violations)
            assert result.operations > 100


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


@pytest.mark.parametrize(
    ("bug", "plan", "complaints"),
    [
        ("stale_reads", [at(0.0, Isolate("leader"), 0.8)], ["order: revision", "had been seen"]),
        ("diverging_state", [], ["HashKV at revision", "the log of m"]),
        ("lost_events", [], ["w0.", "expected"]),
    ],
)
def test_planted_bugs_are_seen(
    tmp_path: Path, bug: str, plan: Sequence[Planned], complaints: Sequence[str]
) -> None:
    command = (sys.executable, "-m", "tests.e2e.chaos.mutant", bug)
    with chaos_cluster(tmp_path, 3, keydeck=command) as cluster:
        result = Rounds(cluster, seed=3).run(plan, 0)
    text = "\n".join(result.violations)
    for complaint in complaints:
        assert complaint in text
