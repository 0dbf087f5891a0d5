"""Look for seeds that show each mutant: `python -m tests.sim.mutants [words of its name] …`."""

from __future__ import annotations

import sys

import pytest

from tests.sim.mutants import MUTANTS
from tests.sim.mutants.plant import Mutant
from tests.support.sim.hunt import Outcome

SEEDS = range(1, 200)


def first_catch(mutant: Mutant) -> Outcome | None:
    for seed in SEEDS:
        with pytest.MonkeyPatch.context() as monkeypatch:
            mutant.plant(monkeypatch)
            outcome = mutant.run(seed)
        if outcome.failure:
            return outcome
    return None


for name, mutant in MUTANTS.items():
    if len(sys.argv) > 1 and not any(word in name for word in sys.argv[1:]):
        continue
    found = first_catch(mutant)
    if found is None:
        print(f"{name}: not caught", flush=True)
    else:
        text = found.failure.strip().splitlines()
        shown = text[-1] if text[0].startswith("Traceback") else text[0]
        print(f"{name}: seed {found.seed} ({found.cpu_seconds:.1f} s): {shown[:150]}", flush=True)
