"""What a mutant is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.sim.faults import Profile, focused
from tests.support.sim.hunt import Outcome, run_seed

SECONDS = 30.0
Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """A bug, the seed that shows it quickly, with words of the violation that it ends in, and the
    faults that bring it out (none: whatever the seed says). A bug that chance shows too seldom has
    a schedule instead (tests/sim/schedules.py)."""

    plant: Plant
    seed: int = 0
    words: str = ""
    faults: tuple[str, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    schedule: str = ""

    def profile(self, seed: int) -> Profile | None:
        return focused(seed, *self.faults, **self.changes) if self.faults else None

    def run(self, seed: int) -> Outcome:
        """One run, mutant or not."""
        return run_seed(seed, SECONDS, self.profile(seed))
