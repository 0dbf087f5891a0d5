"""The simulator sees: every planted bug is caught by a seed that is clean without it (rung 9).

A mutant's own seed is one that shows it quickly; `python -m tests.sim.mutants` looks for such seeds.
"""

from __future__ import annotations

import pytest

from tests.sim.mutants import MUTANTS
from tests.support.sim.hunt import run_seed

SECONDS = 30.0
CAUGHT_BY: dict[str, tuple[int, str]] = {}
"""By mutant: the seed, and words of the violation that it ends in."""


def test_every_mutant_has_its_seed() -> None:
    assert set(CAUGHT_BY) == set(MUTANTS)


@pytest.mark.parametrize("mutant", sorted(CAUGHT_BY))
def test_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seed, words = CAUGHT_BY[mutant]
    MUTANTS[mutant](monkeypatch)
    outcome = run_seed(seed, SECONDS)
    assert words in outcome.failure, outcome.failure or "nothing was noticed"


@pytest.mark.parametrize("seed", sorted({seed for seed, _ in CAUGHT_BY.values()}))
def test_its_seed_is_clean_without_it(seed: int) -> None:
    outcome = run_seed(seed, SECONDS)
    assert not outcome.failure
