"""Every failpoint is a place where simulated processes die (faults.py, "crash at a failpoint")."""

from __future__ import annotations

import pytest

from kvserver import failpoints
from tests.support.sim.cluster import Cluster
from tests.support.sim.faults import PLACES, focused
from tests.support.sim.machine import Settings

SECONDS = 30.0
SEEDS = range(8, 14)
"""Chance decides which places one run comes by; together they come by all."""


def test_a_simulated_member_comes_by_every_failpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that none comes by would be a crash that never happens, whatever the list says."""
    assert PLACES == failpoints.NAMES
    passed: set[str] = set()
    monkeypatch.setattr(failpoints, "hit", passed.add)
    settings = Settings(
        snapshot_entries=10, catch_up_entries=1, segment_bytes=1 << 13, compaction_batch=1
    )
    for seed in SEEDS:
        faults = "membership", "defragment", "pause"
        Cluster(seed, seconds=SECONDS, profile=focused(seed, *faults, settings=settings)).run()
        if len(passed) == len(PLACES):
            break
    assert passed == set(PLACES)
