"""JSON Web Tokens: signed, not stored (spec/auth.md §7.2).

A token names a user and the auth revision it was issued at, so any later change of users or roles
outdates it. Every member checks it by the shared keys; only the member that served Authenticate
signs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_pem_x509_certificate

from kvserver import errors
from kvserver.auth.identity import Identity
from kvserver.limits import JWT_CHECKED_MAX

METHODS = frozenset(
    f"{family}{bits}" for family in ("RS", "PS", "ES", "HS") for bits in (256, 384, 512)
) | {"EdDSA"}


_SIGNATURE_ONLY: Any = {
    f"verify_{claim}": False for claim in ("exp", "iat", "nbf", "aud", "iss", "sub", "jti")
}
"""The claims are looked at here, by the clock that was given."""


class VerifyOnly(errors.RequestError):
    message = "auth: token signing attempted with verify-only key"


class JwtTokens:
    """`sign_key` is None on a member that can only verify. `wall` gives unix seconds."""

    def __init__(
        self,
        method: str,
        sign_key: Any,
        verify_key: Any,
        ttl_seconds: float,
        wall: Callable[[], float],
    ) -> None:
        self._method = method
        self._sign_key = sign_key
        self._verify_key = verify_key
        self._ttl_seconds = ttl_seconds
        self._wall = wall
        self._jwt = jwt.PyJWT(options=_SIGNATURE_ONLY)
        self._checked: dict[str, tuple[Identity, float]] = {}

    def assign(self, username: str, prefix: str, index: int) -> str:
        return ""

    def sign(self, username: str, revision: int) -> str | None:
        if self._sign_key is None:
            raise VerifyOnly
        expires = int(self._wall() + self._ttl_seconds)
        claims = {"username": username, "revision": revision, "exp": expires}
        return self._jwt.encode(claims, self._sign_key, algorithm=self._method)

    def resolve(self, token: str, revision: int, applied_index: int) -> Identity:
        checked = self._checked.get(token)
        if checked is None:
            checked = self._check(token)
            if len(self._checked) >= JWT_CHECKED_MAX:
                self._checked.clear()
            self._checked[token] = checked  # a signature is checked once, not for every request
        identity, expires = checked
        if expires <= self._wall():
            raise errors.InvalidAuthToken
        return identity

    def _check(self, token: str) -> tuple[Identity, float]:
        try:
            claims = self._jwt.decode(token, self._verify_key, algorithms=[self._method])
        except (jwt.PyJWTError, ValueError):
            raise errors.InvalidAuthToken from None
        username = claims.get("username")
        revision, expires = _number(claims, "revision"), _number(claims, "exp")
        if not isinstance(username, str) or not 0 <= revision < 2**64:
            raise errors.InvalidAuthToken
        return Identity(username, int(revision)), float(expires)

    def drop_user(self, username: str) -> None:
        """The change of revision outdates the user's tokens."""

    def clear(self) -> None: ...


def _number(claims: Any, name: str) -> float:
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise errors.InvalidAuthToken
    return value


def load_keys(method: str, private: bytes, public: bytes) -> tuple[Any, Any]:
    """(sign key or None, verify key) from the contents of the files. Raises `FatalError`."""
    is_secret = method.startswith("HS")
    if not private and (is_secret or not public):
        raise errors.FatalError("auth: missing key data")
    algorithm = jwt.get_algorithm_by_name(method)
    try:
        if is_secret:
            algorithm.prepare_key(private)
            return private, private
        sign_key: Any = serialization.load_pem_private_key(private, None) if private else None
        verify_key: Any = _public_key(public) if public else sign_key.public_key()
        if sign_key is None:
            algorithm.prepare_key(verify_key)
        else:  # whatever is wrong with the key shows now, not at the first login
            jwt.encode({}, sign_key, algorithm=method)
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise errors.FatalError(f"auth: the keys do not serve {method}: {error}") from None
    if sign_key is not None and _pem(sign_key.public_key()) != _pem(verify_key):
        raise errors.FatalError("auth: public and private keys don't match")
    return sign_key, verify_key


def _public_key(pem: bytes) -> Any:
    if b"BEGIN CERTIFICATE" in pem:
        return load_pem_x509_certificate(pem).public_key()
    return serialization.load_pem_public_key(pem)


def _pem(key: Any) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_bytes(encoding, form))
