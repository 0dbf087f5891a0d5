"""What is broken in a round, and when: all of it from the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.chaos.faults import MIXABLE, Fault, FullDisk, Kind
from tests.support.chaos.replacement import Replace

FAULTS_MAX = 3
REPLACE_CHANCE = 0.08
FULL_DISK_CHANCE = 0.06


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault from `begins` to `ends`, in seconds of the round."""

    fault: Fault
    begins: float
    ends: float

    def __str__(self) -> str:
        return f"{self.fault} {self.begins:.1f}-{self.ends:.1f}"


def plan_round(
    dice: random.Random, *, has_small_disk: bool, mixable: Sequence[Kind] = MIXABLE
) -> list[Planned]:
    """One fault in every third round, so that what it costs can be measured; else up to three."""
    chance = dice.random()
    if chance < REPLACE_CHANCE:
        return [Planned(Replace("one"), 0.5, 0.5)]
    if chance < REPLACE_CHANCE + FULL_DISK_CHANCE and has_small_disk:
        return [Planned(FullDisk("its own"), 0.5, 3.0)]
    count = dice.choice([1, 2, FAULTS_MAX])
    weights = [weight for weight, _, _ in mixable]
    planned = []
    for _, kind, who in dice.choices(mixable, weights, k=count):
        begins = dice.uniform(0.3, 1.5)
        planned.append(Planned(kind(who), begins, begins + dice.uniform(0.3, 2.5)))
    return planned
