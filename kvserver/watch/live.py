"""Who is watching this key now? The index of live watchers.

Watchers of the same interval form a group. Single keys are found by a dict; prefixes, which is
what nearly every range watch is, by a dict and the few prefix lengths in use; any other interval
by an interval tree.
"""

from __future__ import annotations

from kvserver.watch.ranges import IntervalTree
from kvserver.watch.watcher import NUL, Watcher

PREFIX_LENGTHS_MAX = 32
"""Look-ups per event among prefixes; ranges of further lengths go to the tree."""


class Group:
    """The live watchers of one interval, by kind; dicts are used as ordered sets."""

    __slots__ = ("by_kind", "end", "key")

    def __init__(self, key: bytes, end: bytes) -> None:
        self.key = key
        self.end = end
        self.by_kind: dict[int, dict[Watcher, None]] = {}


class LiveIndex:
    """Live watchers by what they watch. Owner: the loop, through the hub."""

    __slots__ = ("_keys", "_length_counts", "_lengths", "_prefixes", "_ranges", "_trees", "size")

    def __init__(self) -> None:
        self.size = 0
        self._keys: dict[bytes, Group] = {}
        self._ranges: dict[tuple[bytes, bytes], Group] = {}
        self._prefixes: dict[bytes, Group] = {}
        self._length_counts: dict[int, int] = {}
        self._lengths: tuple[int, ...] = ()
        self._trees: IntervalTree[Group] = IntervalTree()

    def add(self, watcher: Watcher) -> None:
        key, end = watcher.key, watcher.end
        group = self._ranges.get((key, end)) if end else self._keys.get(key)
        if group is None:
            group = Group(key, end)
            if end:
                self._add_range(group)
            else:
                self._keys[key] = group
        group.by_kind.setdefault(watcher.kind, {})[watcher] = None
        self.size += 1

    def remove(self, watcher: Watcher) -> None:
        key, end = watcher.key, watcher.end
        group = self._ranges[key, end] if end else self._keys[key]
        watchers = group.by_kind[watcher.kind]
        del watchers[watcher]
        self.size -= 1
        if watchers:
            return
        del group.by_kind[watcher.kind]
        if group.by_kind:
            return
        if end:
            self._remove_range(group)
        else:
            del self._keys[key]

    def find(self, key: bytes) -> list[Group]:
        """Groups whose interval holds the key. Hot path: once per event."""
        group = self._keys.get(key)
        found = [] if group is None else [group]
        for length in self._lengths:
            group = self._prefixes.get(key[:length])
            # A key shorter than the length is its own slice, but not under that prefix's length.
            if group is not None and len(group.key) == length:
                found.append(group)
        if self._trees.size:
            found.extend(self._trees.holding(key))
        return found

    def _add_range(self, group: Group) -> None:
        self._ranges[group.key, group.end] = group
        length = len(group.key)
        if not is_prefix_range(group.key, group.end) or (
            length not in self._length_counts and len(self._length_counts) >= PREFIX_LENGTHS_MAX
        ):
            self._trees.insert(group.key, None if group.end == NUL else group.end, group)
            return
        self._prefixes[group.key] = group
        self._length_counts[length] = self._length_counts.get(length, 0) + 1
        self._lengths = tuple(self._length_counts)

    def _remove_range(self, group: Group) -> None:
        del self._ranges[group.key, group.end]
        if self._prefixes.get(group.key) is not group:
            self._trees.remove(group.key, None if group.end == NUL else group.end)
            return
        del self._prefixes[group.key]
        length = len(group.key)
        self._length_counts[length] -= 1
        if self._length_counts[length] == 0:
            del self._length_counts[length]
            self._lengths = tuple(self._length_counts)


def is_prefix_range(key: bytes, end: bytes) -> bool:
    """Whether [key, end) holds exactly the keys that begin with `key`."""
    stem = key.rstrip(b"\xff")
    return bool(stem) and end == stem[:-1] + bytes((stem[-1] + 1,))
