"""The simulator sees: every planted bug is caught by a seed that is clean without it (rung 9).

`python -m tests.sim.mutants` looks for seeds that show a mutant.
"""

from __future__ import annotations

import pytest

from tests.sim.mutants import MUTANTS
from tests.sim.schedules import SCHEDULES

SEEDS_MAX = 10
"""From the seed that showed the mutant when it was looked for: one of these does."""
BY_SEED = sorted(name for name, mutant in MUTANTS.items() if not mutant.schedule)


def test_every_mutant_has_a_seed_or_a_schedule() -> None:
    scheduled = {mutant.schedule for mutant in MUTANTS.values() if mutant.schedule}
    assert scheduled == set(SCHEDULES)  # run by test_sim_lessons.py
    assert all(MUTANTS[name].seed and MUTANTS[name].words for name in BY_SEED)


@pytest.mark.parametrize("name", BY_SEED)
def test_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.plant(monkeypatch)
    for seed in range(mutant.seed, mutant.seed + SEEDS_MAX):
        outcome = mutant.run(seed)
        if outcome.failure:
            break
    assert mutant.words in outcome.failure and outcome.failure, outcome.failure
    monkeypatch.undo()
    clean = mutant.run(seed)
    assert not clean.failure
