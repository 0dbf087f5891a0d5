"""What one user may do: the union of its roles' permissions (spec/auth.md §4)."""

from __future__ import annotations

from collections.abc import Iterable

from kvserver.auth.intervals import Intervals
from kvserver.proto import auth_pb2

READ, WRITE, READWRITE = 0, 1, 2


class Rights:
    """Derived from the auth store at one revision. WRITE never implies READ."""

    __slots__ = ("is_root", "read", "write")

    def __init__(self, is_root: bool, permissions: Iterable[auth_pb2.Permission]) -> None:
        self.is_root = is_root
        granted = [(p.permType, (p.key, p.range_end)) for p in permissions]
        self.read = Intervals(pair for kind, pair in granted if kind in (READ, READWRITE))
        self.write = Intervals(pair for kind, pair in granted if kind in (WRITE, READWRITE))

    def allow(self, is_write: bool, key: bytes, range_end: bytes) -> bool:
        return (self.write if is_write else self.read).covers(key, range_end)
