"""Password hashes: bcrypt, in the form etcd stores (spec/auth.md §1).

Slow on purpose (60 to 100 ms at the default cost): never called on the loop, but for entries of
releases whose log carries passwords.
"""

from __future__ import annotations

import bcrypt

from kvserver.errors import RequestError

PASSWORD_BYTES_MAX = 72
COST_DEFAULT = 10
COSTS = range(4, 32)


class PasswordTooLong(RequestError):
    message = "bcrypt: password length exceeds 72 bytes"


def hash_password(password: str, cost: int) -> bytes:
    """Raises `PasswordTooLong`."""
    encoded = password.encode()
    if len(encoded) > PASSWORD_BYTES_MAX:
        raise PasswordTooLong
    return bcrypt.hashpw(encoded, bcrypt.gensalt(cost, b"2a"))


def password_matches(password: str, password_hash: bytes) -> bool:
    """False for a hash that is none (a password changed to nothing) and for longer passwords."""
    encoded = password.encode()
    if len(encoded) > PASSWORD_BYTES_MAX:
        return False
    try:
        return bcrypt.checkpw(encoded, password_hash)
    except ValueError:
        return False
