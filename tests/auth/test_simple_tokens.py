"""Simple tokens (spec/auth.md §7.1) and the absence of tokens."""

from __future__ import annotations

import pytest

from kvserver import errors
from kvserver.auth import Identity, NoTokens, TokenAhead
from kvserver.auth.tokens import SimpleTokens
from tests.auth.rig import Now

APPLIED = 50


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def tokens(now: Now) -> SimpleTokens:
    return SimpleTokens(5, now)


def resolves(tokens: SimpleTokens, token: str) -> bool:
    try:
        return tokens.resolve(token, 9, APPLIED) == Identity("u", 9)
    except errors.InvalidAuthToken:
        return False


def test_a_token_is_its_letters_and_its_entrys_index(tokens: SimpleTokens) -> None:
    token = tokens.assign("u", "QwErTyUiOpAsDfGh", 42)
    assert token == "QwErTyUiOpAsDfGh.42"
    assert tokens.resolve(token, 3, APPLIED) == Identity("u", 3)
    assert tokens.sign("u", 3) is None


def test_case_25_idle_tokens_die_used_ones_live(tokens: SimpleTokens, now: Now) -> None:
    used, idle = tokens.assign("u", "used", 1), tokens.assign("u", "idle", 2)
    for _ in range(6):
        now.seconds += 2
        assert resolves(tokens, used)
    assert not resolves(tokens, idle)
    now.seconds += 5
    assert not resolves(tokens, used)


def test_expired_tokens_do_not_pile_up(tokens: SimpleTokens, now: Now) -> None:
    for number in range(100):
        tokens.assign("u", "x", number)
    kept = "x.50"
    now.seconds += 4
    assert resolves(tokens, kept)
    now.seconds += 4
    tokens.assign("u", "y", 1)
    assert len(tokens) == 2 and resolves(tokens, kept)


@pytest.mark.parametrize(
    "token", ["", "x", "x.", ".", "x.y", "x.1.2", "x.-1", "x.+1", "x. 1", "x.٣", "x." + "9" * 30]
)
def test_malformed_tokens_are_refused_at_once(tokens: SimpleTokens, token: str) -> None:
    with pytest.raises(errors.InvalidAuthToken) as refused:
        tokens.resolve(token, 1, APPLIED)
    assert type(refused.value) is errors.InvalidAuthToken


def test_a_token_of_an_entry_that_is_not_applied_yet_can_be_waited_for(
    tokens: SimpleTokens,
) -> None:
    """Trap 7; to whoever does not wait it is an invalid token like any other."""
    for index, kind in ((APPLIED, errors.InvalidAuthToken), (APPLIED + 1, TokenAhead)):
        with pytest.raises(errors.InvalidAuthToken) as refused:
            tokens.resolve(f"x.{index}", 1, APPLIED)
        assert type(refused.value) is kind
        assert refused.value.message == "etcdserver: invalid auth token"


def test_a_users_tokens_go_and_others_stay(tokens: SimpleTokens) -> None:
    mine, other = tokens.assign("u", "x", 1), tokens.assign("v", "y", 2)
    tokens.drop_user("v")
    assert resolves(tokens, mine) and not resolves(tokens, other)
    tokens.clear()
    assert not resolves(tokens, mine)


def test_without_a_provider_nobody_logs_in() -> None:
    """§7: type empty."""
    tokens = NoTokens()
    with pytest.raises(errors.AuthFailed):
        tokens.assign("u", "x", 1)
    with pytest.raises(errors.InvalidAuthToken):
        tokens.resolve("x.1", 1, APPLIED)
    tokens.drop_user("u")
    tokens.clear()
