"""Keys in groups by their beginnings, as deep as is asked for. No Django in here.

A folder is only a way to look at keys: the group of a key is its beginning up to and with the
n-th slash that follows a segment, or what there is of it. `/registry/pods/default/a` is in the
group `/registry/` at depth 1 and in `/registry/pods/` at depth 2; a key without a slash is in
the group of the empty prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

SEPARATOR = b"/"
DEPTH_MAX = 4
GROUPS_MAX = 2_000
"""Groups held at once; one more and all of them become a level coarser."""

Sum = TypeVar("Sum")


def group_of(key: bytes, depth: int) -> bytes:
    """The beginning that stands for the key at this depth."""
    end = 0
    segments = 0
    # A leading separator opens the first segment and closes none.
    at = key.find(SEPARATOR, 1)
    while at != -1 and segments < depth:
        end = at + 1
        segments += 1
        at = key.find(SEPARATOR, end)
    return key[:end]


class Groups(Generic[Sum]):
    """A sum for each group, coarser when there would be too many. `merge(into, other)` adds."""

    def __init__(
        self,
        new: Callable[[], Sum],
        merge: Callable[[Sum, Sum], None],
        *,
        depth: int = DEPTH_MAX,
        groups_max: int = GROUPS_MAX,
    ) -> None:
        self._new, self._merge = new, merge
        self._groups_max = groups_max
        self.depth = depth
        self.sums: dict[bytes, Sum] = {}

    def of(self, key: bytes) -> Sum:
        """The sum the key belongs to. Ask each time: the groups may have become coarser."""
        group = group_of(key, self.depth)
        found = self.sums.get(group)
        if found is None:
            while len(self.sums) >= self._groups_max and self.depth:
                self.sums = rolled_up(self.sums, self.depth - 1, self._new, self._merge)
                self.depth -= 1
                group = group_of(key, self.depth)
            found = self.sums.setdefault(group, self._new())
        return found


def rolled_up(
    sums: dict[bytes, Sum], depth: int, new: Callable[[], Sum], merge: Callable[[Sum, Sum], None]
) -> dict[bytes, Sum]:
    """The same sums for coarser groups."""
    coarse: dict[bytes, Sum] = {}
    for group, one in sums.items():
        merge(coarse.setdefault(group_of(group, depth), new()), one)
    return coarse


def largest(
    sums: dict[bytes, Sum], by: Callable[[Sum], int], count: int
) -> list[tuple[bytes, Sum]]:
    """The `count` largest groups, the largest first, ties by name."""
    return sorted(sums.items(), key=lambda pair: (-by(pair[1]), pair[0]))[:count]
