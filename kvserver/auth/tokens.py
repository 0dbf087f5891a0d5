"""What every kind of token offers, and the simple kind (spec/auth.md §6, §7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kvserver import errors
from kvserver.auth.identity import Identity

UINT64_DIGITS_MAX = 20


class TokenAhead(errors.InvalidAuthToken):
    """The entry that would have created this token is not applied here yet: whoever can wait until
    it is should, all others refuse the token."""


class Tokens(Protocol):
    """A token provider."""

    def assign(self, username: str, prefix: str, index: int) -> str:
        """At apply: the token this entry creates, empty if tokens are not made there."""

    def sign(self, username: str, revision: int) -> str | None:
        """On the serving member, off the loop: the token, or None if `assign` has made it."""

    def resolve(self, token: str, revision: int, applied_index: int) -> Identity:
        """Raises `InvalidAuthToken`. `revision` is the auth store's."""

    def drop_user(self, username: str) -> None: ...

    def clear(self) -> None: ...


class NoTokens:
    """`--auth-token=`: nobody can log in; only certificates name users."""

    def assign(self, username: str, prefix: str, index: int) -> str:
        raise errors.AuthFailed

    def sign(self, username: str, revision: int) -> str | None:
        return None

    def resolve(self, token: str, revision: int, applied_index: int) -> Identity:
        raise errors.InvalidAuthToken

    def drop_user(self, username: str) -> None: ...

    def clear(self) -> None: ...


class SimpleTokens:
    """Random letters, a dot and the index of the entry that made the token; in memory only.

    The lifetime slides with each use on this member (§7.1). Use moves a token to the end of the
    table, so those that have expired are always at its beginning: no timer is needed.
    """

    def __init__(self, ttl_seconds: float, monotonic: Callable[[], float]) -> None:
        self._ttl_seconds = ttl_seconds
        self._monotonic = monotonic
        self._tokens: dict[str, tuple[Identity, float]] = {}
        """Whose each is, as resolved last, and when it ends."""

    def __len__(self) -> int:
        return len(self._tokens)

    def assign(self, username: str, prefix: str, index: int) -> str:
        now = self._monotonic()
        self._sweep(now)
        token = f"{prefix}.{index}"
        self._tokens[token] = Identity(username, 0), now + self._ttl_seconds
        return token

    def sign(self, username: str, revision: int) -> str | None:
        return None

    def resolve(self, token: str, revision: int, applied_index: int) -> Identity:
        found = self._tokens.pop(token, None)
        if found is None:
            raise self._refusal(token, applied_index)
        identity, deadline = found
        now = self._monotonic()
        if deadline <= now:
            raise errors.InvalidAuthToken
        if identity.revision != revision:
            identity = Identity(identity.username, revision)
        self._tokens[token] = identity, now + self._ttl_seconds
        return identity

    def _refusal(self, token: str, applied_index: int) -> errors.InvalidAuthToken:
        parts = token.split(".")
        digits = parts[-1]
        is_index = digits.isascii() and digits.isdigit() and len(digits) <= UINT64_DIGITS_MAX
        if len(parts) == 2 and is_index and int(digits) > applied_index:
            return TokenAhead()
        return errors.InvalidAuthToken()

    def drop_user(self, username: str) -> None:
        self._tokens = {
            t: entry for t, entry in self._tokens.items() if entry[0].username != username
        }

    def clear(self) -> None:
        self._tokens.clear()

    def _sweep(self, now: float) -> None:
        expired = []
        for token, (_, deadline) in self._tokens.items():
            if deadline > now:
                break
            expired.append(token)
        for token in expired:
            del self._tokens[token]
