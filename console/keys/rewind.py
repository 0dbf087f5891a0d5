"""What it takes to bring the keys below a prefix back to a revision. No Django, no gRPC.

Two walks over the range, one at the old revision and one at the revision of the plan, side by
side in key order: equal mod_revisions are equal keys (spec/kv.md M4), so values are read only of
what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from console.gateway.records import Key, LeaseTime, Part
from console.keys.batches import Change
from console.keys.byte_text import parse, show
from console.keys.paging import KeyRange, after

KEYS_A_CALL = 1000
VALUES_AT_ONCE = 32
"""Values may be a megabyte each."""

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


class Values(Protocol):
    """What a rewind reads with (gateway/reader.py)."""

    def part(self, keys: KeyRange, limit: int, revision: int) -> Part: ...
    def keys_at(self, keys: Sequence[bytes], revision: int) -> list[Key | None]: ...
    def lease_time(self, lease: int) -> LeaseTime: ...


@dataclass(frozen=True, slots=True)
class Rewind:
    """A range and the revision it is to be brought back to."""

    keys: KeyRange
    to: int

    @property
    def said(self) -> str:
        end = show(self.keys.end) if self.keys.has_end else "∞"
        return f"[{show(self.keys.start)}, {end})"

    def to_json(self) -> dict[str, str]:
        return {"start": show(self.keys.start), "end": show(self.keys.end), "to": str(self.to)}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Rewind:
        return cls(KeyRange(parse(kept["start"]), parse(kept["end"])), int(kept["to"]))

    def differences(self, ask: Ask, base: int) -> Iterator[Difference | None]:
        return differences(walk(ask, self.keys, self.to), walk(ask, self.keys, base))

    def changes(self, values: Values, base: int, *, takes_leases: bool) -> Iterator[Change]:
        """What brings the range back. A key keeps the lease it has now unless the old one is
        taken, which it is where it still lives (trap 1)."""
        alive: dict[int, bool] = {}

        def lease_of(old: Key) -> int:
            lease = old.lease if takes_leases else 0
            if lease and lease not in alive:
                alive[lease] = not values.lease_time(lease).is_gone
            return lease if alive.get(lease) else 0

        changed = (one for one in self.differences(values.part, base) if one is not None)
        while block := list(islice(changed, VALUES_AT_ONCE)):
            wanted = [one.key for one in block if one.old is not None]
            old = dict(zip(wanted, values.keys_at(wanted, self.to), strict=True)) if wanted else {}
            for one in block:
                now = one.now.mod_revision if one.now else 0
                held = old.get(one.key)
                if held is None:
                    yield Change(one.key, now, None)
                    continue
                lease = lease_of(held)
                # Whether it has one the walk does not tell: from 3.7 on keys without values come
                # without their lease (spec/kv.md R11).
                keeps = one.now is not None and not lease
                yield Change(one.key, now, held.value, lease, keeps_lease=keeps)
