"""Who a request comes from, and as of which state of the auth store."""

from __future__ import annotations

from typing import NamedTuple


class Identity(NamedTuple):
    """A user name and the auth revision its credentials were resolved at (spec/auth.md §2)."""

    username: str
    revision: int


NOBODY = Identity("", 0)
"""No credentials."""

ROOT = "root"
"""Magic by name, both as a user and as a role (spec/auth.md trap 12)."""
