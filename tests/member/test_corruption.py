"""Who is corrupt by the hashes that are told (spec/maintenance.md C1 to C3, cases 33 and 34)."""

from __future__ import annotations

import pytest

from kvserver.member.corruption import (
    ToldHash,
    compact_verdict,
    differing,
    periodic_culprit,
)

LEADER, SECOND, THIRD = 1, 2, 3
OWN = ToldHash(hash=7, compact_revision=5, current_revision=9)
SAME = ToldHash(7, 5, 9)
OTHER = ToldHash(8, 5, 9)
OTHER_TOO = ToldHash(9, 5, 9)
COMPACTED_ELSEWHERE = ToldHash(8, 6, 9)


def test_only_members_that_compacted_alike_can_contradict() -> None:
    told = {SECOND: OTHER, THIRD: COMPACTED_ELSEWHERE, 4: SAME}
    assert differing(OWN, told) == [SECOND]


@pytest.mark.parametrize(
    ("second", "peers", "culprit"),
    [
        (SAME, {SECOND: SAME, THIRD: SAME}, None),
        (SAME, {SECOND: SAME, THIRD: OTHER}, THIRD),
        (SAME, {SECOND: OTHER, THIRD: OTHER}, SECOND),  # one alarm a run
        (OTHER, {SECOND: SAME}, LEADER),  # its own two hashes of one revision differ
        (ToldHash(8, 5, 10), {SECOND: SAME}, None),  # it has gone on meanwhile
        (ToldHash(8, 6, 9), {SECOND: SAME}, None),  # it has compacted meanwhile
        (SAME, {SECOND: ToldHash(7, 5, 10)}, SECOND),  # ahead of its leader
        (SAME, {SECOND: COMPACTED_ELSEWHERE}, SECOND),  # compacted what the leader did not
        (SAME, {SECOND: ToldHash(8, 4, 9)}, None),  # will compact later
        (SAME, {}, None),
    ],
)
def test_one_run_of_the_leader(
    second: ToldHash, peers: dict[int, ToldHash], culprit: int | None
) -> None:
    assert periodic_culprit(LEADER, OWN, second, peers) == culprit


@pytest.mark.parametrize(
    ("peers", "accused", "is_settled"),
    [
        ({SECOND: SAME, THIRD: SAME}, (), True),
        ({SECOND: SAME, THIRD: None}, (), False),
        ({SECOND: SAME, THIRD: COMPACTED_ELSEWHERE}, (), False),
        ({SECOND: SAME, THIRD: OTHER}, (THIRD,), True),
        ({SECOND: OTHER, THIRD: OTHER}, (LEADER,), True),  # the leader may be the odd one
        ({SECOND: OTHER, THIRD: OTHER_TOO}, (0,), True),  # nobody has a majority
        ({SECOND: OTHER, THIRD: None}, (0,), True),
        ({SECOND: OTHER}, (0,), True),
        ({SECOND: SAME, THIRD: OTHER, 4: SAME, 5: OTHER_TOO}, (THIRD, 5), True),
    ],
)
def test_a_compaction_hash_is_judged_by_the_majority(
    peers: dict[int, ToldHash | None], accused: tuple[int, ...], is_settled: bool
) -> None:
    verdict = compact_verdict(LEADER, OWN, peers)
    assert (verdict.accused, verdict.is_settled) == (accused, is_settled)
