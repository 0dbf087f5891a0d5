"""What it takes to bring the keys below a prefix back to a revision. No Django, no gRPC.

Two walks over the range, one at the old revision and one at the revision of the plan, side by
side in key order: equal mod_revisions are equal keys (spec/kv.md M4), so values are read only of
what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from console.gateway.records import Key, Part
from console.keys.paging import KeyRange, after

KEYS_A_CALL = 1000

Ask = Callable[[KeyRange, int, int], Part]


@dataclass(frozen=True, slots=True)
class Difference:
    """`old` and `now` are without values; None where the key does not exist."""

    old: Key | None
    now: Key | None

    @property
    def key(self) -> bytes:
        one = self.old or self.now
        assert one is not None
        return one.key

    @property
    def kind(self) -> str:
        if self.old is None:
            return "delete"
        return "change" if self.now else "create"


def walk(ask: Ask, keys: KeyRange, revision: int) -> Iterator[Key]:
    """Every key of a range at a revision, in order."""
    start = keys.start
    while True:
        part = ask(KeyRange(start, keys.end), KEYS_A_CALL, revision)
        yield from part.keys
        if not part.has_more or not part.keys:
            return
        start = after(part.keys[-1].key)


def differences(old: Iterator[Key], now: Iterator[Key]) -> Iterator[Difference | None]:
    """Key by key in order; None for a key that is the same in both."""
    left, right = next(old, None), next(now, None)
    while left or right:
        if right is None or (left is not None and left.key < right.key):
            yield Difference(left, None)
            left = next(old, None)
        elif left is None or right.key < left.key:
            yield Difference(None, right)
            right = next(now, None)
        else:
            is_same = left.mod_revision == right.mod_revision
            yield None if is_same else Difference(left, right)
            left, right = next(old, None), next(now, None)
