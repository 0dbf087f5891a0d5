"""Secrets of connections, encrypted at rest with a key that is not in the database.

The key is a file beside it (0600), or KEYDECK_ENCRYPTION_KEY. Losing it loses the stored
passwords and client keys, nothing else: they are entered again.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings


class SecretLost(Exception):
    """A stored secret that the present key does not open."""


def encrypt(text: str) -> str:
    """The stored form; nothing stays nothing."""
    return _box().encrypt(text.encode()).decode() if text else ""


def decrypt(stored: str) -> str:
    if not stored:
        return ""
    try:
        return _box().decrypt(stored.encode()).decode()
    except InvalidToken:
        raise SecretLost(
            "a stored secret was encrypted with another key: enter it again on the connection"
        ) from None


def create_key(path: Path) -> None:
    """Write a fresh key, readable by its owner only, unless there is one already."""
    write_secret(path, Fernet.generate_key().decode())


def write_secret(path: Path, text: str) -> None:
    """Create `path` (0600) with `text`; an existing file is left as it is."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text + "\n")


@cache
def _box() -> Fernet:
    key = os.environ.get("KEYDECK_ENCRYPTION_KEY")
    if not key:
        create_key(settings.ENCRYPTION_KEY_FILE)
        key = settings.ENCRYPTION_KEY_FILE.read_text(encoding="ascii").strip()
    return Fernet(key)
