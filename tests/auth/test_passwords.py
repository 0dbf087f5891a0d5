"""Password hashes (spec/auth.md §1)."""

from __future__ import annotations

import pytest

from kvserver.auth.passwords import PasswordTooLong, hash_password, password_matches
from kvserver.errors import Code

COST = 4


def test_hashes_have_etcds_form_and_a_salt_of_their_own() -> None:
    one, two = hash_password("geheim", COST), hash_password("geheim", COST)
    assert one.startswith(b"$2a$04$") and len(one) == 60
    assert one != two
    assert password_matches("geheim", one) and password_matches("geheim", two)
    assert not password_matches("Geheim", one)


def test_both_prefixes_are_accepted() -> None:
    made = hash_password("geheim", COST)
    assert password_matches("geheim", made.replace(b"$2a$", b"$2b$"))


def test_an_empty_password_can_be_hashed() -> None:
    """UserAdd takes one, and its user can log in with it."""
    made = hash_password("", COST)
    assert password_matches("", made) and not password_matches("x", made)


def test_a_user_without_a_hash_cannot_log_in() -> None:
    """What a change to the empty password leaves."""
    assert not password_matches("", b"") and not password_matches("", b"nonsense")


def test_passwords_longer_than_bcrypt_reads_are_refused() -> None:
    made = hash_password("é" * 36, COST)
    assert password_matches("é" * 36, made)
    with pytest.raises(PasswordTooLong) as refused:
        hash_password("é" * 36 + "x", COST)
    assert (refused.value.code, refused.value.message) == (
        Code.UNKNOWN,
        "bcrypt: password length exceeds 72 bytes",
    )
    assert not password_matches("é" * 36 + "x", made)


def test_a_zero_byte_is_a_character_like_any_other() -> None:
    made = hash_password("a\0b", COST)
    assert password_matches("a\0b", made)
    assert not password_matches("a\0c", made) and not password_matches("a", made)
