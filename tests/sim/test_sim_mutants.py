"""The simulator sees: every planted bug is caught by a seed that is clean without it (rung 9).

`python -m tests.sim.mutants` looks for seeds that show a mutant.
"""

from __future__ import annotations

import pytest

from tests.sim.mutants import MUTANTS


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    clean = mutant.run(mutant.seed)
    assert not clean.failure
    mutant.plant(monkeypatch)
    caught = mutant.run(mutant.seed)
    assert mutant.words in caught.failure and caught.failure, caught.failure
