"""Bugs in who may do what."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver.apply.auth import AuthApplier
from kvserver.auth import AuthStore
from kvserver.runtime.install import Installer
from tests.sim.mutants.plant import Mutant
from tests.support.sim.machine import Settings


def keeps_rights_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that outlives the change of a role."""

    def bump(self: AuthStore) -> None:
        self._set_revision(self.revision + 1)

    monkeypatch.setattr(AuthStore, "_bump", bump)


def forgets_users_on_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """All state is taken over from a received database, but that of auth."""
    rebuild = Installer._rebuild

    class Forgetful:
        def restore(self) -> None: ...

    def without_auth(self: Installer, *arguments: Any) -> None:
        self._auth = Forgetful()  # type: ignore[assignment]
        rebuild(self, *arguments)

    monkeypatch.setattr(Installer, "_rebuild", without_auth)


def applies_without_judging(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if whoever may propose may write."""
    monkeypatch.setattr(AuthApplier, "judge", lambda *arguments: None)


LAGGING: dict[str, Any] = {
    "settings": Settings(snapshot_entries=10, catch_up_entries=1),
    "has_auth": True,
}
MUTANTS: dict[str, Mutant] = {
    "keeps rights of before": Mutant(
        keeps_rights_of_before, 1, "who may not", ("crash",), {"has_auth": True}
    ),
    "forgets users on a snapshot": Mutant(
        forgets_users_on_a_snapshot, 1, "after entry", ("partition", "crash"), LAGGING
    ),
    "applies without judging": Mutant(
        applies_without_judging, 1, "who may not", ("delay",), {"has_auth": True}
    ),
}
