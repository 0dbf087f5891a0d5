"""Planted bugs on the real stack, each a classic that somebody has shipped (rung 9).

`MUTANTS` names them; a mutant is planted by a call with pytest's monkeypatch, before a run builds
its members.
"""

from __future__ import annotations

from tests.sim.mutants import auth, consensus, state, transfers
from tests.sim.mutants.plant import Mutant

MUTANTS: dict[str, Mutant] = {
    **consensus.MUTANTS,
    **state.MUTANTS,
    **auth.MUTANTS,
    **transfers.MUTANTS,
}
