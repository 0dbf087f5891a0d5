"""Keys as a tree of folders, one level at a time. No Django, no gRPC.

Folders are only a way to look at keys (console.md §3 trap 5): nothing is written for them, and
every byte of a key stands in the tree. A level is found by skipping: read the next few keys, and
where they run into a folder, jump to the first key behind it. The count that comes with a limited
range is of everything from there on (spec/kv.md R4), so the number of keys in a folder is the
difference of two counts and costs no call of its own. All calls of a level read one revision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from console.gateway.records import Key, Part
from console.keys.paging import KeyRange, after, prefix_end, prefix_range

NODES_MAX = 100
"""Rows of a level that one page shows."""

CALLS_MAX = 51
"""Ranges that one page of a level reads: a folder takes at most one, keys share them."""

DEPTH_MAX = 12
"""Folders above the one looked at that are shown with their counts."""

FEW_KEYS, MANY_KEYS = 4, 128
"""How many keys one range asks for: few among folders, many among keys."""

Ask = Callable[[KeyRange, int, int], Part]
"""(range, limit, revision) → its first keys, without values."""


@dataclass(frozen=True, slots=True)
class Node:
    """A row: a key, a folder, or a folder whose very name is a key too. `count` counts the keys
    in a folder; None where the page ended before it was known."""

    path: bytes
    name: bytes
    is_folder: bool
    key: Key | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """A page of one level. `rest` is where the next page starts, None at the end."""

    prefix: bytes
    nodes: tuple[Node, ...]
    total: int
    revision: int
    rest: bytes | None
    calls: int


def read_branch(
    ask: Ask,
    prefix: bytes,
    separator: bytes,
    *,
    start: bytes | None = None,
    revision: int = 0,
    is_spent: Callable[[], bool] = lambda: False,
) -> Branch:
    """One page of the level below `prefix`, from `start` on. `is_spent` ends it early."""
    level = _Level(prefix, separator)
    keys = prefix_range(prefix)
    position: bytes | None = start or keys.start
    limit, calls, total = MANY_KEYS // 4, 0, 0
    while position is not None and level.has_room and calls < CALLS_MAX:
        if calls and is_spent():
            break
        if calls == CALLS_MAX - 1:
            level.add_no_more()
        part = ask(KeyRange(position, keys.end), limit, revision)
        calls += 1
        if calls == 1:
            revision, total = revision or part.newest, part.count
        position, was_skipped = level.take(part, position)
        limit = max(FEW_KEYS, limit // 2) if was_skipped else min(MANY_KEYS, limit * 2)
    return Branch(prefix, tuple(level.rows()), total, revision, position, calls)


class _Level:
    """The rows found so far. Owned by one `read_branch`."""

    def __init__(self, prefix: bytes, separator: bytes) -> None:
        self._prefix = prefix
        self._separator = separator
        self._base = len(base_of(prefix, separator))
        self._nodes: list[Node] = []
        self._nodes_max = NODES_MAX
        self._open_count: int | None = None
        """Of the last row, when it is a folder whose end is not reached: the keys from its first
        one to the end of the level."""

    @property
    def has_room(self) -> bool:
        # The last folder still gets its count, so that a row is whole.
        return len(self._nodes) < self._nodes_max or self._open_count is not None

    def rows(self) -> list[Node]:
        return self._nodes

    def add_no_more(self) -> None:
        """The last range only says how many keys the last folder has."""
        self._nodes_max = len(self._nodes)

    def take(self, part: Part, position: bytes) -> tuple[bytes | None, bool]:
        """Where to read on, None at the end, and whether that skips the rest of a folder."""
        for number, key in enumerate(part.keys):
            left = part.count - number
            folder = folder_of(key.key, self._prefix, self._separator)
            if self._open_count is not None:
                if folder == self._nodes[-1].path:
                    continue
                self._close(left)
            if len(self._nodes) >= self._nodes_max:
                return key.key, False
            if folder is None:
                self._nodes.append(Node(key.key, key.key[self._base :], False, key))
            else:
                its_key = key if key.key == folder else None
                self._nodes.append(Node(folder, folder[self._base :], True, its_key))
                self._open_count = left
        if not part.keys:
            self._close(0)
            return None, False
        if self._open_count is not None:
            beyond = prefix_end(self._nodes[-1].path)
            if not part.has_more or beyond == prefix_range(self._prefix).end:
                self._close(0)
                return None, False
            return beyond, True
        return (after(part.keys[-1].key), False) if part.has_more else (None, False)

    def _close(self, left: int) -> None:
        """The open folder ends where `left` keys of the level are still to come."""
        if self._open_count is None:
            return
        last = self._nodes[-1]
        self._nodes[-1] = Node(last.path, last.name, True, last.key, self._open_count - left)
        self._open_count = None


def folder_of(key: bytes, prefix: bytes, separator: bytes) -> bytes | None:
    """The folder right below `prefix` that holds the key; None when the key is itself the row."""
    if not separator:
        return None
    # A separator that begins the first name belongs to it: /app/, not / and app/ within.
    skip = len(separator) if not prefix and key.startswith(separator) else 0
    at = key.find(separator, len(prefix) + skip)
    if at == -1:
        return None
    return key[: at + len(separator)]


def folders_of(path: bytes, separator: bytes) -> list[bytes]:
    """The folders a key or prefix lies in, outermost first, itself included when it is one."""
    found: list[bytes] = []
    while separator:
        folder = folder_of(path, found[-1] if found else b"", separator)
        if folder is None:
            break
        found.append(folder)
    return found


def base_of(prefix: bytes, separator: bytes) -> bytes:
    """The folder that names below `prefix` are written from."""
    folders = folders_of(prefix, separator)
    return folders[-1] if folders else b""
