"""Bugs in who may do what."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver.apply.auth import AuthApplier
from kvserver.auth import AuthStore
from kvserver.auth.tokens import NoTokens, SimpleTokens
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


def keeps_tokens_of_an_old_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimpleTokens, "drop_user", lambda self, username: None)


def keeps_tokens_over_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours once: whoever lagged never sees the entry that ends them."""
    restore = AuthStore.restore

    def without_clear(self: AuthStore) -> None:
        tokens, self.tokens = self.tokens, NoTokens()
        restore(self)
        self.tokens = tokens

    monkeypatch.setattr(AuthStore, "restore", without_clear)


def knows_one_token_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log-in ends the one before."""
    assign = SimpleTokens.assign

    def assign_only(self: SimpleTokens, username: str, prefix: str, index: int) -> str:
        self.drop_user(username)
        return assign(self, username, prefix, index)

    monkeypatch.setattr(SimpleTokens, "assign", assign_only)


def keeps_the_old_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change ends tokens, and the hash stays."""

    def change(self: AuthStore, name: str, password_hash: bytes) -> None:
        self._existing_user(name)
        self.tokens.drop_user(name)
        self._bump()

    monkeypatch.setattr(AuthStore, "change_password", change)


LAGGING: dict[str, Any] = {
    "settings": Settings(snapshot_entries=10, catch_up_entries=1),
    "has_auth": True,
}
MUTANTS: dict[str, Mutant] = {
    "keeps rights of before": Mutant(
        keeps_rights_of_before, 1, "not what is granted", ("crash",), {"has_auth": True}
    ),
    "forgets users on a snapshot": Mutant(
        forgets_users_on_a_snapshot, 1, "after entry", ("partition", "crash"), LAGGING
    ),
    "keeps tokens of an old password": Mutant(
        keeps_tokens_of_an_old_password, 1, "dropped", ("delay",), {"has_auth": True}
    ),
    "keeps tokens over a snapshot": Mutant(
        keeps_tokens_over_a_snapshot, 34, "dropped", ("partition",), LAGGING
    ),
    "knows one token of a user": Mutant(
        knows_one_token_of_a_user, 1, "refuses", ("delay",), {"has_auth": True}
    ),
    "keeps the old password": Mutant(
        keeps_the_old_password, 1, "logs in as", ("delay",), {"has_auth": True}
    ),
    "applies without judging": Mutant(
        applies_without_judging, 1, "who may not", ("delay",), {"has_auth": True}
    ),
}
