"""Random schedules of whole clusters, checked event by event (spec/raft.md §14.3).

A failing seed replays exactly: `run(seed)`. Seeds that once failed stay in REGRESSIONS.
"""

from __future__ import annotations

import pytest

from tests.support.raft_cluster import Cluster, Faults

PROFILES: dict[str, dict[str, object]] = {
    "three members": {"size": 3},
    "five members": {"size": 5},
    "no pre-vote, no check quorum": {"size": 3, "pre_vote": False, "check_quorum": False},
    "tiny limits": {
        "size": 3,
        "append_bytes_max": 1,
        "inflight_appends_max": 1,
        "apply_bytes_max": 1,
    },
    "membership": {"size": 5, "voters": 3, "faults": Faults(conf_change=1.0, crash=0.5)},
    "storms": {
        "size": 3,
        "faults": Faults(drop=0.1, duplicate=0.2, reorder=0.8, crash=1.0, read=8.0),
    },
    "promises": {
        "size": 3,
        "tells_commits": False,
        "faults": Faults(drop=0.005, crash=0.3, partition=0.3, read=6.0, promise=10.0),
    },
    "promises in storms": {
        "size": 3,
        "faults": Faults(
            drop=0.005, duplicate=0.2, reorder=0.5, crash=0.5, partition=0.3, read=8.0, promise=10.0
        ),
    },
    "promises and membership": {
        "size": 5,
        "voters": 3,
        "faults": Faults(drop=0.01, crash=0.3, conf_change=0.3, read=6.0, promise=10.0),
    },
    "snapshots": {"size": 3, "faults": Faults(snapshot=5.0, crash=2.0)},
}
SEEDS = 30
EVENTS = 800
PROMISES = "promises"
"""They are made where appends flow, so these runs are longer and milder."""
PROMISES_EVENTS = 2400


def run(profile: str, seed: int) -> Cluster:
    events = PROMISES_EVENTS if PROMISES in profile else EVENTS
    cluster = Cluster(seed, **PROFILES[profile])  # type: ignore[arg-type]
    cluster.run(events)
    cluster.heal_and_check_progress()
    return cluster


@pytest.mark.parametrize("profile", PROFILES)
def test_safety_and_progress(profile: str) -> None:
    applied = served = elections = promises = 0
    for seed in range(SEEDS):
        try:
            cluster = run(profile, seed)
        except Exception as error:
            raise AssertionError(f"profile {profile!r}, seed {seed}: {error}") from error
        applied += cluster.checker.applied_max
        served += cluster.checker.reads_served
        elections += len(cluster.checker.leaders)
        promises += cluster.checker.promises
    # The runs must have done something for their silence to mean anything.
    assert applied > SEEDS * 5
    assert served > SEEDS // 3
    assert elections > SEEDS
    assert promises > SEEDS * 2 or PROMISES not in profile


def test_one_seed_is_one_run() -> None:
    first, second = run("storms", 7), run("storms", 7)
    assert first.checker.chain == second.checker.chain
    assert first.checker.leaders == second.checker.leaders
